static int32_t clipped(int64_t number, int32_t lowest, int32_t highest) {
    return number < lowest ? lowest : number > highest ? highest : (int32_t)number;
}
