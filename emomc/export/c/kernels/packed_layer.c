/* The weights of a layer, as they are in the packed file: see docs/format.md of EMOMC. */
typedef struct {
    const unsigned char *stream;
    const float *scales; /* one for each per_scale weights; NULL for float32 weights */
    uint32_t weights, per_scale, entries;
    unsigned char coding, bits, index_bits;
} packed_layer;
