/* The sum of each row, divided by `divisor`. */
static void sum_rows_s32(const int32_t *in, int rows, int size, int divisor, int32_t *out) {
    for (int row = 0; row < rows; row++, in += size) {
        int64_t sum = 0;
        for (int i = 0; i < size; i++) sum += in[i];
        out[row] = rounded_quotient(sum, divisor);
    }
}
