typedef struct {
    const unsigned char *data;
    uint32_t bit; /* the next one */
} bit_stream;
