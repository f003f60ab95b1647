static void leaky_relu(const float *in, int count, float slope, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] > 0 ? in[i] : in[i] * slope;
}
