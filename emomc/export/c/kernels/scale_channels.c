/* What is left of a BatchNorm: a factor and a shift for each channel. */
static void scale_channels(const float *in, int channels, int pixels, const float *factors, const float *shifts,
                           float *out) {
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < pixels; i++) *out++ = *in++ * factors[c] + shifts[c];
}
