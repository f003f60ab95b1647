static int32_t next_block(weight_reader *at) {
    at->position = at->next;
    for (;; at->position++) {
        at->mask.bit = block_of(at->layer, at->position);
        if (take_bit(&at->mask)) return take_code(&at->from, at->layer->bits);
    }
}
