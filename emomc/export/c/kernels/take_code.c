/* Returns the next integer in two's complement. */
static int32_t take_code(bit_stream *from, uint32_t bits) {
    int32_t value = (int32_t)take_bits(from, bits);
    return value >> (bits - 1) ? value - ((int32_t)1 << bits) : value;
}
