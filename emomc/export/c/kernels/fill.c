static void fill(float number, int count, float *out) {
    for (int i = 0; i < count; i++) out[i] = number;
}
