/* The approximation by the hyperbolic tangent. */
static void gelu_tanh(const float *in, int count, float *out) {
    for (int i = 0; i < count; i++) {
        float inner = 0.79788456f * (in[i] + 0.044715f * in[i] * in[i] * in[i]);
        out[i] = 0.5f * in[i] * (1 + tanhf(inner));
    }
}
