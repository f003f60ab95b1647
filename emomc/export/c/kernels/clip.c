static void clip(const float *in, int count, float lowest, float highest, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] < lowest ? lowest : in[i] > highest ? highest : in[i];
}
