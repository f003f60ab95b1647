/* Rounds the inputs of a layer to codes times a step; half-way between two codes, to the even one. */
static void round_inputs(const float *in, int count, float lowest, float highest, float step, float *out) {
    for (int i = 0; i < count; i++)
        out[i] = nearbyintf(fminf(fmaxf(in[i], lowest), highest) / step) * step;
}
