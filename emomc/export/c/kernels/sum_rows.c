/* The sum of each row, divided by `divisor`. */
static void sum_rows(const float *in, int rows, int size, int divisor, float *out) {
    for (int row = 0; row < rows; row++, in += size) {
        float sum = 0;
        for (int i = 0; i < size; i++) sum += in[i];
        out[row] = sum / (float)divisor;
    }
}
