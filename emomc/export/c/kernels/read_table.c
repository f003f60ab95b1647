/* Reads the table at the begin of a stream in the coding huffman. */
static void read_table(bit_stream *from, symbol_table *table) {
    unsigned char length[136];
    for (int n = 0; n < 16; n++) table->lengths[n] = 0;
    table->split = take_bits(from, 4);
    uint32_t count = take_bits(from, 8), used = 0;
    for (uint32_t i = 0; i < count; i++) table->lengths[length[i] = (unsigned char)take_bits(from, 4)]++;
    for (uint32_t n = 1; n < 16; n++)
        for (uint32_t i = 0; i < count; i++)
            if (length[i] == n) table->symbols[used++] = (unsigned char)i;
    table->only = count - 1;
}
