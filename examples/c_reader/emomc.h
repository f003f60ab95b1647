/* Reads packed networks (docs/format.md). C99 and its standard library, nothing else. */
#ifndef EMOMC_H
#define EMOMC_H

#include <stddef.h>
#include <stdint.h>

enum { EMOMC_NORMAL, EMOMC_CSR, EMOMC_COO, EMOMC_BITMAP, EMOMC_HUFFMAN, EMOMC_NM, EMOMC_BLOCK };

typedef struct {
    const char *name; /* not terminated: name_bytes of them */
    uint32_t name_bytes, dimensions, shape[4];
    uint32_t bits, coding, index_bits, scales, entries, stream_bytes;
    uint32_t input_bits;         /* of the codes that inputs are rounded to; 0 if they are not rounded */
    int input_signed;            /* codes up to 2^(input_bits - 1) - 1 and as far below 0, or from 0 to 2^input_bits - 1 */
    float input_step;            /* a rounded input is a code times this */
    int half_scales;             /* scales are float16 numbers times scale_unit, a power of two */
    float scale_unit;
    size_t weights;              /* product of the shape */
    const unsigned char *data;   /* the scales, then the stream */
} emomc_layer;

typedef struct {
    const char *name;
    uint32_t name_bytes, type, dimensions, shape[6];
    size_t count;
    const unsigned char *data;
} emomc_tensor;

typedef struct {
    unsigned char *file;
    size_t file_bytes;
    uint32_t layer_count, tensor_count;
    uint32_t channels, height, width, classes;
    const unsigned char *normalisation; /* channels means, channels deviations; NULL if not known */
    const char *metadata;               /* JSON, not terminated */
    uint32_t metadata_bytes;
    emomc_layer *layers;
    emomc_tensor *tensors;
} emomc_network;

/* Each returns 0, or -1 and a reason (a string that needs no freeing). */
int emomc_open(const char *path, emomc_network *network, const char **reason);
int emomc_unpack(const emomc_layer *layer, float *weights, const char **reason);
void emomc_close(emomc_network *network);

/* NULL where there is none of that name. */
const emomc_layer *emomc_find_layer(const emomc_network *network, const char *name);
const emomc_tensor *emomc_find_tensor(const emomc_network *network, const char *name);

float emomc_float(const unsigned char *bytes); /* little-endian float32 */
float emomc_half(const unsigned char *bytes);  /* little-endian float16 */

#endif
