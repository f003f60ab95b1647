/* A slope for each channel where the input is negative. */
static void prelu(const float *in, int channels, int pixels, const float *slopes, float *out) {
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < pixels; i++, in++) *out++ = *in > 0 ? *in : *in * slopes[c];
}
