/* product / 2^shift, to the nearest integer; half-way between two, to the even one. The shift is 1 to 62. */
static int64_t rounded_shift(int64_t product, int shift) {
    uint64_t size = product < 0 ? 0 - (uint64_t)product : (uint64_t)product;
    uint64_t whole = size >> shift, rest = size - (whole << shift), half = (uint64_t)1 << (shift - 1);
    whole += rest > half || (rest == half && (whole & 1));
    return product < 0 ? -(int64_t)whole : (int64_t)whole;
}
