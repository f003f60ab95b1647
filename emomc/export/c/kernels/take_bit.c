static uint32_t take_bit(bit_stream *from) {
    uint32_t bit = from->bit++;
    return from->data[bit >> 3] >> (bit & 7) & 1u;
}
