static void mish(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] * tanhf(in[i] > 20 ? in[i] : log1pf(expf(in[i])));
}
