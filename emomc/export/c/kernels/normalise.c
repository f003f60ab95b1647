/* Gives each row the variance 1 and the mean 0; if it is not to be centred, the mean square 1. */
static void normalise(const float *in, int rows, int size, int centred, float epsilon, float *out) {
    for (int row = 0; row < rows; row++, in += size, out += size) {
        float mean = 0, variance = 0;
        for (int i = 0; centred && i < size; i++) mean += in[i];
        mean /= (float)size;
        for (int i = 0; i < size; i++) variance += (in[i] - mean) * (in[i] - mean);
        float factor = 1 / sqrtf(variance / (float)size + epsilon);
        for (int i = 0; i < size; i++) out[i] = (in[i] - mean) * factor;
    }
}
