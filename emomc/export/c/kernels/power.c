static void power(const float *in, int count, float exponent, float *out) {
    for (int i = 0; i < count; i++) out[i] = powf(in[i], exponent);
}
