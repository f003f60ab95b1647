/* A linear layer on each of so many rows. */
static void linear(const float *in, const packed_layer *layer, const float *bias, int rows, int inputs, int outputs,
                   float *out) {
    weight_reader at = begin_weights(layer);
    for (int row = 0; row < rows; row++) fill_channels(out + row * outputs, bias, outputs, 1);
    while (next_weight(&at)) {
        int to = (int)at.position / inputs, from = (int)at.position % inputs;
        for (int row = 0; row < rows; row++) out[row * outputs + to] += at.weight * in[row * inputs + from];
    }
}
