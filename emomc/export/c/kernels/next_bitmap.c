static int32_t next_bitmap(weight_reader *at) {
    at->position = at->next;
    while (!take_bits(&at->mask, 1)) at->position++;
    return take_code(&at->from, at->layer->bits);
}
