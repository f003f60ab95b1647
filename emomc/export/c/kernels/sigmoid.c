static void sigmoid(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = 1 / (1 + expf(-in[i]));
}
