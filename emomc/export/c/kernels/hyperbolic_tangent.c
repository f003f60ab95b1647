static void hyperbolic_tangent(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = tanhf(in[i]);
}
