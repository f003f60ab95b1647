/* Gives each row the mean 0 and the variance 1. */
static void normalise(const float *in, int rows, int size, float epsilon, float *out) {
    for (int row = 0; row < rows; row++, in += size, out += size) {
        float mean = 0, variance = 0;
        for (int i = 0; i < size; i++) mean += in[i];
        mean /= (float)size;
        for (int i = 0; i < size; i++) variance += (in[i] - mean) * (in[i] - mean);
        float factor = 1 / sqrtf(variance / (float)size + epsilon);
        for (int i = 0; i < size; i++) out[i] = (in[i] - mean) * factor;
    }
}
