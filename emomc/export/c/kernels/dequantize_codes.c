/* The floats that codes stand for. */
static void dequantize_codes(const CODE *in, int count, float step, float *out) {
    for (int i = 0; i < count; i++) out[i] = (float)in[i] * step;
}
