static int32_t next_normal(weight_reader *at) {
    at->position = at->next;
    return take_code(&at->from, at->layer->bits);
}
