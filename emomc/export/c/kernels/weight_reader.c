/* Walks through the weights of a layer that are not zero. */
typedef struct {
    const packed_layer *layer;
    bit_stream from, mask;
    uint32_t entry, next; /* entries read; the position after the last one */
    uint32_t position;    /* of the weight, row-major, output channels first */
    int32_t code;
    float weight; /* the code times its scale; only for layers that compute in floats */
} weight_reader;
