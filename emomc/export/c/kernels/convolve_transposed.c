/* A transposed convolution: out_height and out_width are those of what it makes. */
static void convolve_transposed(const float *in, const packed_layer *layer, const float *bias, int in_channels,
                                int out_channels, int groups, const window_shape *s, float *out) {
    int per_group = in_channels / groups, taps = s->kernel_y * s->kernel_x;
    weight_reader at = begin_weights(layer);
    fill_channels(out, bias, out_channels, s->out_height * s->out_width);
    while (next_weight(&at)) {
        int tap = (int)at.position % taps, from = (int)at.position / taps;
        int to = from / per_group, group = to / (out_channels / groups);
        int dy = tap / s->kernel_x * s->dilation_y - s->top, dx = tap % s->kernel_x * s->dilation_x - s->left;
        int end_y = end_within(dy, s->stride_y, s->out_height, s->height);
        int first_x = first_within(dx, s->stride_x), end_x = end_within(dx, s->stride_x, s->out_width, s->width);
        const float *map = in + (from % per_group + group * per_group) * s->height * s->width;
        for (int y = first_within(dy, s->stride_y); y < end_y; y++) {
            int row = (to * s->out_height + y * s->stride_y + dy) * s->out_width + dx;
            for (int x = first_x; x < end_x; x++) out[row + x * s->stride_x] += at.weight * map[y * s->width + x];
        }
    }
}
