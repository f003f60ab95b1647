static void exponential(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = expf(in[i]);
}
