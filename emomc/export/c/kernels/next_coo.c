static int32_t next_coo(weight_reader *at) {
    at->position = take_bits(&at->from, at->layer->index_bits);
    return take_code(&at->from, at->layer->bits);
}
