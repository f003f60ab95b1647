/* The smallest n of 0 or more with n * stride + offset of 0 or more. */
static int first_within(int offset, int stride) { return offset >= 0 ? 0 : (stride - 1 - offset) / stride; }
