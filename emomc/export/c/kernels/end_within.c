/* One more than the largest n below count with n * stride + offset below size; 0 if there is none. */
static int end_within(int offset, int stride, int size, int count) {
    int end = offset < size ? (size - 1 - offset) / stride + 1 : 0;
    return end < count ? end : count;
}
