/* A canonical Huffman code. */
typedef struct {
    uint32_t split, only;       /* `only`: the one symbol there is, whose code has no bits */
    uint16_t lengths[16];       /* codes of each length */
    unsigned char symbols[136]; /* in the order of their codes */
} symbol_table;
