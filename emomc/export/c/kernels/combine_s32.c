/* Adds, or subtracts (1), two tensors of four dimensions on the same step; steps of 0 repeat a number. */
static void combine_s32(const int32_t *a, const int *a_steps, const int32_t *b, const int *b_steps, const int *sizes,
                        int subtract, int32_t *out) {
    for (int i = 0; i < sizes[0]; i++)
        for (int j = 0; j < sizes[1]; j++)
            for (int k = 0; k < sizes[2]; k++) {
                const int32_t *x = a + i * a_steps[0] + j * a_steps[1] + k * a_steps[2];
                const int32_t *y = b + i * b_steps[0] + j * b_steps[1] + k * b_steps[2];
                for (int l = 0; l < sizes[3]; l++, x += a_steps[3], y += b_steps[3])
                    *out++ = subtract ? *x - *y : *x + *y;
            }
}
