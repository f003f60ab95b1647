/* `divisor`: what the sums are divided by; 0: the pixels of the window, -1: those without the padding. */
static void pool_average_s32(const int32_t *in, int channels, const window_shape *s, int divisor, int32_t *out) {
    for (int c = 0; c < channels; c++, in += s->height * s->width)
        for (int y = 0; y < s->out_height; y++)
            for (int x = 0; x < s->out_width; x++) {
                int first_y = y * s->stride_y - s->top, first_x = x * s->stride_x - s->left;
                int end_y = first_y + s->kernel_y, end_x = first_x + s->kernel_x;
                if (end_y > s->height + s->top) end_y = s->height + s->top;
                if (end_x > s->width + s->left) end_x = s->width + s->left;
                int with_padding = (end_y - first_y) * (end_x - first_x);
                if (first_y < 0) first_y = 0;
                if (first_x < 0) first_x = 0;
                if (end_y > s->height) end_y = s->height;
                if (end_x > s->width) end_x = s->width;
                int without = (end_y - first_y) * (end_x - first_x);
                int64_t sum = 0;
                for (int iy = first_y; iy < end_y; iy++)
                    for (int ix = first_x; ix < end_x; ix++) sum += in[iy * s->width + ix];
                *out++ = rounded_quotient(sum, divisor > 0 ? divisor : divisor ? without : with_padding);
            }
}
