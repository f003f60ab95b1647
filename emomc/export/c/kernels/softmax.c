/* Over the second of three dimensions; with logarithm, its logarithm. */
static void softmax(const float *in, int outer, int size, int inner, int logarithm, float *out) {
    for (int row = 0; row < outer * inner; row++) {
        int begin = row / inner * size * inner + row % inner;
        float largest = in[begin], sum = 0;
        for (int i = 1; i < size; i++) largest = fmaxf(largest, in[begin + i * inner]);
        for (int i = 0; i < size; i++) sum += expf(in[begin + i * inner] - largest);
        for (int i = 0; i < size; i++) {
            float shifted = in[begin + i * inner] - largest;
            out[begin + i * inner] = logarithm ? shifted - logf(sum) : expf(shifted) / sum;
        }
    }
}
