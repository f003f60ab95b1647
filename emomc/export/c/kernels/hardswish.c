static void hardswish(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] * fminf(fmaxf(in[i] + 3, 0), 6) / 6;
}
