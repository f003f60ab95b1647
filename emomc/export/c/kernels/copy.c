/* Copies a tensor of six dimensions into another order or place. */
static void copy(const float *in, const int *in_steps, const int *sizes, float *out, const int *out_steps) {
    int at[6] = {0};
    for (;;) {
        const float *from = in;
        float *to = out;
        for (int d = 0; d < 5; d++) {
            from += at[d] * in_steps[d];
            to += at[d] * out_steps[d];
        }
        for (int i = 0; i < sizes[5]; i++) to[i * out_steps[5]] = from[i * in_steps[5]];
        int d = 4;
        while (d >= 0 && ++at[d] == sizes[d]) at[d--] = 0;
        if (d < 0) return;
    }
}
