/* The largest of windows that together cover the map. */
static void pool_adaptive_max(const float *in, int channels, int height, int width, int out_height, int out_width,
                              float *out) {
    for (int c = 0; c < channels; c++, in += height * width)
        for (int y = 0; y < out_height; y++)
            for (int x = 0; x < out_width; x++) {
                int first_y = y * height / out_height, end_y = ((y + 1) * height + out_height - 1) / out_height;
                int first_x = x * width / out_width, end_x = ((x + 1) * width + out_width - 1) / out_width;
                float largest = in[first_y * width + first_x];
                for (int iy = first_y; iy < end_y; iy++)
                    for (int ix = first_x; ix < end_x; ix++)
                        if (in[iy * width + ix] > largest) largest = in[iy * width + ix];
                *out++ = largest;
            }
}
