/* Rounds integers on a fine step to the codes of a layer's inputs. */
static void rescale_codes(const int32_t *in, int count, int32_t multiplier, int shift, int lowest, int highest,
                          CODE *out) {
    for (int i = 0; i < count; i++)
        out[i] = (CODE)clipped(rounded_shift((int64_t)in[i] * multiplier, shift), lowest, highest);
}
