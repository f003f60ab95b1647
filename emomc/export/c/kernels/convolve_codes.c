/* A convolution of integers, one output channel after another: the weights lie in that order. Each weight that is not
   zero is decoded once, and added to every sum that it meets. */
static void convolve_codes(const CODE *in, const packed_layer *layer, const rescaling *by, int in_channels,
                           int out_channels, int groups, const window_shape *s, int32_t *sums, const int32_t *added,
                           void *out) {
    int per_group = in_channels / groups, taps = s->kernel_y * s->kernel_x, pixels = s->out_height * s->out_width;
    int stride_x = s->stride_x, out_width = s->out_width;
    weight_reader at = begin_weights(layer);
    int more = next_code(&at);
    for (int to = 0; to < out_channels; to++) {
        const CODE *maps = in + to / (out_channels / groups) * per_group * s->height * s->width;
        fill_s32(by->biases ? by->biases[to] : 0, pixels, sums);
        for (; more && (int)at.position / (per_group * taps) == to; more = next_code(&at)) {
            int32_t code = at.code;
            int tap = (int)at.position % taps, from = (int)at.position / taps % per_group;
            int dy = tap / s->kernel_x * s->dilation_y - s->top, dx = tap % s->kernel_x * s->dilation_x - s->left;
            int end_y = end_within(dy, s->stride_y, s->height, s->out_height);
            int first_x = first_within(dx, s->stride_x), end_x = end_within(dx, s->stride_x, s->width, s->out_width);
            const CODE *map = maps + from * s->height * s->width;
            for (int y = first_within(dy, s->stride_y); y < end_y; y++) {
                const CODE *row = map + (y * s->stride_y + dy) * s->width + dx;
                for (int x = first_x; x < end_x; x++) sums[y * out_width + x] += code * row[x * stride_x];
            }
        }
        rescale_sums(sums, pixels, by, to, added, out, to * pixels, 1);
    }
}
