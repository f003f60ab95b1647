static int32_t next_bitmap(weight_reader *at) {
    at->position = at->next;
    while (!take_bit(&at->mask)) at->position++;
    return take_code(&at->from, at->layer->bits);
}
