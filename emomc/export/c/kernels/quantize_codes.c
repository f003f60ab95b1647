/* Rounds floats to the codes of a layer's inputs; half-way between two codes, to the even one. */
static void quantize_codes(const float *in, int count, float lowest, float highest, float step, CODE *out) {
    for (int i = 0; i < count; i++) out[i] = (CODE)nearbyintf(fminf(fmaxf(in[i], lowest), highest) / step);
}
