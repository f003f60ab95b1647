/* Linear where beta times the input is above the threshold. */
static void softplus(const float *in, int count, float beta, float threshold, float *out) {
    for (int i = 0; i < count; i++) out[i] = in[i] * beta > threshold ? in[i] : log1pf(expf(in[i] * beta)) / beta;
}
