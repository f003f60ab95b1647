static void relu(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] > 0 ? in[i] : 0;
}
