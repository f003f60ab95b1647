/* sum / count, to the nearest integer; half-way between two, away from 0. */
static int32_t rounded_quotient(int64_t sum, int count) {
    return (int32_t)((sum < 0 ? sum - count / 2 : sum + count / 2) / count);
}
