/* A transposed convolution of integers: out_height and out_width are those of what it makes. */
static void convolve_transposed_codes(const CODE *in, const packed_layer *layer, const rescaling *by, int in_channels,
                                      int out_channels, int groups, const window_shape *s, int32_t *sums,
                                      const int32_t *added, void *out) {
    int per_group = in_channels / groups, taps = s->kernel_y * s->kernel_x, pixels = s->out_height * s->out_width;
    int stride_x = s->stride_x, width = s->width;
    weight_reader at = begin_weights(layer);
    int more = next_code(&at);
    for (int to = 0; to < out_channels; to++) {
        const CODE *maps = in + to / (out_channels / groups) * per_group * s->height * s->width;
        fill_s32(by->biases ? by->biases[to] : 0, pixels, sums);
        for (; more && (int)at.position / (per_group * taps) == to; more = next_code(&at)) {
            int32_t code = at.code;
            int tap = (int)at.position % taps, from = (int)at.position / taps % per_group;
            int dy = tap / s->kernel_x * s->dilation_y - s->top, dx = tap % s->kernel_x * s->dilation_x - s->left;
            int end_y = end_within(dy, s->stride_y, s->out_height, s->height);
            int first_x = first_within(dx, s->stride_x), end_x = end_within(dx, s->stride_x, s->out_width, s->width);
            const CODE *map = maps + from * s->height * s->width;
            for (int y = first_within(dy, s->stride_y); y < end_y; y++) {
                int32_t *row = sums + (y * s->stride_y + dy) * s->out_width + dx;
                for (int x = first_x; x < end_x; x++) row[x * stride_x] += code * map[y * width + x];
            }
        }
        rescale_sums(sums, pixels, by, to, added, out, to * pixels, 1);
    }
}
