/* Of each group of inputs the same number of weights; only the last group may have fewer inputs. */
static int32_t next_nm(weight_reader *at) {
    const packed_layer *layer = at->layer;
    uint32_t size = 1u << layer->index_bits, groups = layer->inputs >> layer->index_bits;
    uint32_t left = layer->inputs & (size - 1), row = layer->inputs * layer->taps;
    uint32_t in_row = layer->entries / (layer->weights / row), per_tap = in_row / layer->taps;
    uint32_t few = per_tap <= left * (groups + 1) ? per_tap / (groups + 1) : (per_tap - left) / groups;
    uint32_t output = (at->entry - 1) / in_row, entry = (at->entry - 1) % in_row, group, tap;
    if (entry < groups * few * layer->taps) {
        group = entry / (few * layer->taps);
        tap = entry / few % layer->taps;
    } else {
        group = groups;
        tap = (entry - groups * few * layer->taps) / (few < left ? few : left);
    }
    uint32_t input = group * size + take_bits(&at->from, layer->index_bits);
    at->position = output * row + input * layer->taps + tap;
    return take_code(&at->from, layer->bits);
}
