static int32_t next_csr(weight_reader *at) {
    at->position = at->next + take_bits(&at->from, at->layer->index_bits);
    return take_code(&at->from, at->layer->bits);
}
