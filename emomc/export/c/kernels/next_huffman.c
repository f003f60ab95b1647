static int32_t next_huffman(weight_reader *at) {
    uint32_t index_bits = at->layer->index_bits, zeros = 0;
    int with_gaps = index_bits != 31;
    if (with_gaps) {
        while (!take_bit(&at->from)) zeros++;
        zeros = (zeros << index_bits) + take_bits(&at->from, index_bits);
    }
    at->position = at->next + zeros;
    uint32_t value = take_symbol(&at->from, &memory.table);
    if (value >> memory.table.split) {
        uint32_t extra = value - (1u << memory.table.split) + memory.table.split;
        value = 1u << extra | take_bits(&at->from, extra);
    }
    int32_t code = (int32_t)value + with_gaps;
    return code && take_bit(&at->from) ? -code : code;
}
