static void clip(const float *in, int count, float lowest, float highest, float *out) {
    for (int i = 0; i < count; i++) out[i] = fminf(fmaxf(in[i], lowest), highest);
}
