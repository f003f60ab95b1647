static float next_float32(weight_reader *at) {
    uint32_t pattern = take_bits(&at->from, 32);
    float value;
    at->position = at->next;
    memcpy(&value, &pattern, sizeof value);
    return value;
}
