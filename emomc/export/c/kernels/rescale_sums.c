/* Makes the outputs of one channel; they begin at `first` and are `step` apart. `added`, if any, is added to them before
   they are clipped. */
static void rescale_sums(const int32_t *sums, int count, const rescaling *by, int channel, const int32_t *added,
                         void *out, int first, int step) {
    int32_t multiplier = by->multipliers[channel], lowest = by->lowest, highest = by->highest, type = by->type;
    int64_t offset = by->offsets ? by->offsets[channel] : 0;
    int shift = by->shifts[channel];
    for (int i = 0, to = first; i < count; i++, to += step) {
        int64_t number = rounded_shift((int64_t)sums[i] * multiplier + offset, shift);
        int32_t made = clipped(added ? number + added[to] : number, lowest, highest);
        if (type == OUTPUT_INT32)
            ((int32_t *)out)[to] = made;
        else if (type == OUTPUT_INT8)
            ((int8_t *)out)[to] = (int8_t)made;
        else
            ((uint8_t *)out)[to] = (uint8_t)made;
    }
}
