static void natural_logarithm(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = logf(in[i]);
}
