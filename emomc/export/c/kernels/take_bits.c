/* Returns the next so many bits as a number, at most 32, the first one lowest. */
static uint32_t take_bits(bit_stream *from, uint32_t count) {
    uint32_t value = 0, found = 0;
    while (found < count) {
        uint32_t used = from->bit & 7, some = 8 - used;
        if (some > count - found) some = count - found;
        value |= (from->data[from->bit >> 3] >> used & ((1u << some) - 1)) << found;
        found += some;
        from->bit += some;
    }
    return value;
}
