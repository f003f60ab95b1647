enum { OUTPUT_UINT8, OUTPUT_INT8, OUTPUT_INT32 };

/* How the sums of a layer become its outputs: for each channel sum * multiplier / 2^shift, rounded and clipped. */
typedef struct {
    const int32_t *biases; /* where the sums begin; NULL: at 0 */
    const int32_t *multipliers;
    const uint8_t *shifts;
    const int64_t *offsets; /* added to the products, for biases that are too large for the sums; NULL: none */
    int32_t lowest, highest;
    int32_t type; /* of the outputs */
} rescaling;
