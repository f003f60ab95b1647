static void silu(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] / (1 + expf(-in[i]));
}
