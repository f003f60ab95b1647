/* Sets each channel to a number of its own; to 0 if there are none. */
static void fill_channels(float *out, const float *numbers, int channels, int pixels) {
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < pixels; i++) *out++ = numbers ? numbers[c] : 0;
}
