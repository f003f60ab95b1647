static uint32_t take_symbol(bit_stream *from, const symbol_table *table) {
    if (table->lengths[0] == table->only + 1) return table->only;
    uint32_t code = 0, first = 0, before = 0; /* the first code of this length, the codes of shorter ones */
    for (uint32_t length = 1; length < 16; length++) {
        code = code << 1 | take_bit(from);
        uint32_t count = table->lengths[length];
        if (code < first + count) return table->symbols[before + code - first];
        before += count;
        first = (first + count) << 1;
    }
    return 0; /* a complete code does not come here */
}
