/* Returns the number of the block of outputs x inputs that a weight lies in; of the end of a layer, that of blocks. */
static uint32_t block_of(const packed_layer *layer, uint32_t position) {
    uint32_t rows = layer->index_bits >> 3, columns = layer->index_bits & 7, row = layer->inputs * layer->taps;
    uint32_t across = ((layer->inputs - 1) >> columns) + 1, output = position / row, input = position % row / layer->taps;
    if (position == layer->weights) return (((output - 1) >> rows) + 1) * across * layer->taps;
    return ((output >> rows) * across + (input >> columns)) * layer->taps + position % layer->taps;
}
