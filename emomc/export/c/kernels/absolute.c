static void absolute(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = fabsf(in[i]);
}
