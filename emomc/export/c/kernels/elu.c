/* `factor` of negative values, `scale` of all, `slope` within the exponential. */
static void elu(const float *in, int count, float factor, float scale, float slope, float *out) {
    for (int i = 0; i < count; i++) out[i] = scale * (in[i] > 0 ? in[i] : factor * expm1f(in[i] * slope));
}
