/* A linear layer of integers on each of so many rows, one output after another. */
static void linear_codes(const CODE *in, const packed_layer *layer, const rescaling *by, int rows, int inputs,
                         int outputs, int32_t *sums, const int32_t *added, void *out) {
    weight_reader at = begin_weights(layer);
    int more = next_code(&at);
    for (int to = 0; to < outputs; to++) {
        fill_s32(by->biases ? by->biases[to] : 0, rows, sums);
        for (; more && (int)at.position / inputs == to; more = next_code(&at)) {
            const CODE *column = in + (int)at.position % inputs;
            for (int row = 0; row < rows; row++) sums[row] += at.code * column[row * inputs];
        }
        rescale_sums(sums, rows, by, to, added, out, to, outputs);
    }
}
