static void pool_max(const float *in, int channels, const window_shape *s, float *out) {
    for (int c = 0; c < channels; c++, in += s->height * s->width)
        for (int y = 0; y < s->out_height; y++)
            for (int x = 0; x < s->out_width; x++) {
                const float *largest = NULL;
                for (int ky = 0; ky < s->kernel_y; ky++)
                    for (int kx = 0; kx < s->kernel_x; kx++) {
                        int iy = y * s->stride_y - s->top + ky * s->dilation_y;
                        int ix = x * s->stride_x - s->left + kx * s->dilation_x;
                        if (iy < 0 || ix < 0 || iy >= s->height || ix >= s->width) continue;
                        if (!largest || in[iy * s->width + ix] > *largest) largest = in + iy * s->width + ix;
                    }
                *out++ = largest ? *largest : 0; /* 0: a window of nothing but padding */
            }
}
