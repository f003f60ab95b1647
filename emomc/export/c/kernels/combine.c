/* Adds, subtracts, multiplies or divides (0, 1, 2, 3) two tensors of four dimensions; steps of 0 repeat a number. */
static void combine(const float *a, const int *a_steps, const float *b, const int *b_steps, const int *sizes,
                    int operation, float *out) {
    for (int i = 0; i < sizes[0]; i++)
        for (int j = 0; j < sizes[1]; j++)
            for (int k = 0; k < sizes[2]; k++) {
                const float *x = a + i * a_steps[0] + j * a_steps[1] + k * a_steps[2];
                const float *y = b + i * b_steps[0] + j * b_steps[1] + k * b_steps[2];
                for (int l = 0; l < sizes[3]; l++, x += a_steps[3], y += b_steps[3])
                    *out++ = operation == 0 ? *x + *y : operation == 1 ? *x - *y : operation == 2 ? *x * *y : *x / *y;
            }
}
