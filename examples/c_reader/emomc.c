#include "emomc.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 56, LAYER_BYTES = 48, TENSOR_BYTES = 40, CHECKSUM_BYTES = 4 };
static const uint32_t MAX_RECORDS = 1u << 16;
static const size_t MAX_WEIGHTS = (size_t)1 << 28;
static const unsigned char TYPE_BYTES[] = {4, 8, 2, 8, 4, 2, 1, 1, 1};

static int fail(const char **reason, const char *text) {
    *reason = text;
    return -1;
}

static uint64_t number(const unsigned char *bytes, int count) {
    uint64_t value = 0;
    while (count--) value = value << 8 | bytes[count];
    return value;
}

float emomc_float(const unsigned char *bytes) {
    uint32_t pattern = (uint32_t)number(bytes, 4);
    float value;
    memcpy(&value, &pattern, sizeof value);
    return value;
}

static uint32_t crc32(const unsigned char *data, size_t length) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

/* ---- the file: a walk from its beginning to its end, in the one order that a writer makes ---- */

typedef struct {
    const unsigned char *data;
    size_t position, end;
} walk;

static const unsigned char *take(walk *at, uint64_t length) {
    if (length > at->end - at->position) return NULL;
    at->position += (size_t)length;
    return at->data + at->position - length;
}

static int align(walk *at) { return take(at, (0 - at->position) & 3) ? 0 : -1; }

/* The product of a shape, or 0 if one side is 0 or the product exceeds `most`. */
static size_t product(const uint32_t *shape, uint32_t dimensions, size_t most) {
    size_t count = 1;
    for (uint32_t i = 0; i < dimensions; i++) {
        if (!shape[i] || count > most / shape[i]) return 0;
        count *= shape[i];
    }
    return count;
}

/* Bits of a position among `weights`, the smallest n with 2^n >= weights. */
static uint32_t position_bits(size_t weights) {
    uint32_t bits = 0;
    while (((size_t)1 << bits) < weights) bits++;
    return bits;
}

static uint64_t stream_bits(const emomc_layer *layer) {
    uint64_t entries = (uint64_t)layer->entries * (layer->bits + layer->index_bits);
    return layer->coding == EMOMC_BITMAP ? layer->weights + entries : entries;
}

static int check_layer(const emomc_layer *layer, const char **reason) {
    uint32_t index = layer->index_bits;
    if (layer->bits == 32) {
        if (layer->coding != EMOMC_NORMAL || layer->scales) return fail(reason, "float weights in a coding");
    } else if (layer->bits < 2 || layer->bits > 16) {
        return fail(reason, "bits out of range");
    } else if (layer->scales != 1 && layer->scales != layer->shape[0]) {
        return fail(reason, "neither one scale nor one per channel");
    }
    if (layer->coding > EMOMC_BITMAP) return fail(reason, "an unknown coding");
    if (layer->coding == EMOMC_CSR ? index > 31 : index != (layer->coding == EMOMC_COO ? position_bits(layer->weights) : 0))
        return fail(reason, "index bits out of range");
    if (layer->entries > layer->weights || (layer->coding == EMOMC_NORMAL && layer->entries != layer->weights))
        return fail(reason, "more entries than weights, or fewer");
    if (layer->stream_bytes != (stream_bits(layer) + 7) / 8) return fail(reason, "a stream of another length");
    return 0;
}

static int read_layer(emomc_network *network, uint32_t index, const unsigned char *record, walk *names, walk *data,
                      size_t *weights_left, const char **reason) {
    emomc_layer *layer = &network->layers[index];
    layer->name_bytes = (uint32_t)number(record + 4, 2);
    layer->dimensions = record[6];
    layer->bits = record[7];
    layer->coding = record[8];
    layer->index_bits = record[9];
    for (int i = 0; i < 4; i++) layer->shape[i] = (uint32_t)number(record + 12 + 4 * i, 4);
    layer->scales = (uint32_t)number(record + 28, 4);
    layer->entries = (uint32_t)number(record + 32, 4);
    layer->stream_bytes = (uint32_t)number(record + 36, 4);
    if (number(record, 4) != names->position) return fail(reason, "names out of order");
    if (!(layer->name = (const char *)take(names, layer->name_bytes))) return fail(reason, "a name beyond the names");
    if (layer->dimensions < 2 || layer->dimensions > 4) return fail(reason, "no convolution or linear layer");
    layer->weights = product(layer->shape, layer->dimensions, *weights_left);
    if (!layer->weights) return fail(reason, "no weights, or too many");
    *weights_left -= layer->weights;
    if (check_layer(layer, reason)) return -1;
    if (number(record + 40, 8) != data->position) return fail(reason, "layers out of order");
    layer->data = take(data, (uint64_t)4 * layer->scales + layer->stream_bytes);
    return layer->data && !align(data) ? 0 : fail(reason, "a layer beyond the end of the file");
}

static int read_tensor(emomc_network *network, uint32_t index, const unsigned char *record, walk *names, walk *data,
                       const char **reason) {
    emomc_tensor *tensor = &network->tensors[index];
    tensor->name_bytes = (uint32_t)number(record + 4, 2);
    tensor->type = record[6];
    tensor->dimensions = record[7];
    for (int i = 0; i < 6; i++) tensor->shape[i] = (uint32_t)number(record + 8 + 4 * i, 4);
    if (number(record, 4) != names->position) return fail(reason, "names out of order");
    if (!(tensor->name = (const char *)take(names, tensor->name_bytes))) return fail(reason, "a name beyond the names");
    if (tensor->type >= sizeof TYPE_BYTES || tensor->dimensions > 6) return fail(reason, "an unknown type of tensor");
    tensor->count = product(tensor->shape, tensor->dimensions, data->end / TYPE_BYTES[tensor->type]);
    if (!tensor->count || number(record + 32, 8) != data->position) return fail(reason, "tensors out of order");
    tensor->data = take(data, (uint64_t)tensor->count * TYPE_BYTES[tensor->type]);
    return tensor->data && !align(data) ? 0 : fail(reason, "a tensor beyond the end of the file");
}

static int parse(emomc_network *network, const char **reason) {
    const unsigned char *header = network->file;
    size_t end = network->file_bytes - CHECKSUM_BYTES, weights_left = MAX_WEIGHTS;
    if (network->file_bytes < HEADER_BYTES + CHECKSUM_BYTES || memcmp(header, "EMOMC\r\n\x1a", 8))
        return fail(reason, "no packed network");
    if (number(header + 8, 4) != 1) return fail(reason, "another format version");
    if (number(header + 16, 8) != network->file_bytes) return fail(reason, "a truncated file");
    if (crc32(header, end) != number(header + end, 4)) return fail(reason, "a damaged file: the checksum differs");

    network->layer_count = (uint32_t)number(header + 12, 4);
    network->tensor_count = (uint32_t)number(header + 24, 4);
    uint32_t names_bytes = (uint32_t)number(header + 28, 4);
    network->metadata_bytes = (uint32_t)number(header + 32, 4);
    network->channels = (uint32_t)number(header + 36, 4);
    network->height = (uint32_t)number(header + 40, 4);
    network->width = (uint32_t)number(header + 44, 4);
    network->classes = (uint32_t)number(header + 48, 4);
    if (!network->layer_count || network->layer_count > MAX_RECORDS || network->tensor_count > MAX_RECORDS)
        return fail(reason, "too many layers or tensors");

    walk data = {header, HEADER_BYTES, end};
    if (number(header + 52, 4) && !(network->normalisation = take(&data, (uint64_t)8 * network->channels)))
        return fail(reason, "more channels than bytes");
    const unsigned char *layers = take(&data, (uint64_t)LAYER_BYTES * network->layer_count);
    const unsigned char *tensors = take(&data, (uint64_t)TENSOR_BYTES * network->tensor_count);
    const unsigned char *text = take(&data, names_bytes);
    network->metadata = (const char *)take(&data, network->metadata_bytes);
    if (!layers || !tensors || !text || !network->metadata || align(&data))
        return fail(reason, "more records than bytes");
    walk names = {text, 0, names_bytes};

    network->layers = calloc(network->layer_count, sizeof *network->layers);
    network->tensors = calloc(network->tensor_count + 1, sizeof *network->tensors);
    if (!network->layers || !network->tensors) return fail(reason, "no memory");
    for (uint32_t i = 0; i < network->layer_count; i++)
        if (read_layer(network, i, layers + (size_t)LAYER_BYTES * i, &names, &data, &weights_left, reason)) return -1;
    for (uint32_t i = 0; i < network->tensor_count; i++)
        if (read_tensor(network, i, tensors + (size_t)TENSOR_BYTES * i, &names, &data, reason)) return -1;
    return data.position == end ? 0 : fail(reason, "bytes left over");
}

int emomc_open(const char *path, emomc_network *network, const char **reason) {
    memset(network, 0, sizeof *network);
    FILE *file = fopen(path, "rb");
    if (!file) return fail(reason, "no such file");
    long length = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    rewind(file);
    if (length > HEADER_BYTES && length < LONG_MAX && (network->file = malloc((size_t)length)))
        network->file_bytes = fread(network->file, 1, (size_t)length, file);
    fclose(file);
    if (length > 0 && network->file_bytes == (size_t)length && !parse(network, reason)) return 0;
    if (!network->file_bytes) *reason = "no packed network";
    emomc_close(network);
    return -1;
}

void emomc_close(emomc_network *network) {
    free(network->layers);
    free(network->tensors);
    free(network->file);
    memset(network, 0, sizeof *network);
}

static int is_named(const char *name, uint32_t bytes, const char *wanted) {
    return strlen(wanted) == bytes && !memcmp(name, wanted, bytes);
}

const emomc_layer *emomc_find_layer(const emomc_network *network, const char *name) {
    for (uint32_t i = 0; i < network->layer_count; i++)
        if (is_named(network->layers[i].name, network->layers[i].name_bytes, name)) return &network->layers[i];
    return NULL;
}

const emomc_tensor *emomc_find_tensor(const emomc_network *network, const char *name) {
    for (uint32_t i = 0; i < network->tensor_count; i++)
        if (is_named(network->tensors[i].name, network->tensors[i].name_bytes, name)) return &network->tensors[i];
    return NULL;
}

/* ---- the streams ---- */

typedef struct {
    const unsigned char *data;
    uint64_t bit;
} bit_reader;

static uint32_t take_bits(bit_reader *from, uint32_t count) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; i++, from->bit++)
        value |= (uint32_t)(from->data[from->bit >> 3] >> (from->bit & 7) & 1) << i;
    return value;
}

static int32_t take_code(bit_reader *from, uint32_t bits) {
    int32_t value = (int32_t)take_bits(from, bits);
    return value >> (bits - 1) ? value - ((int32_t)1 << bits) : value;
}

int emomc_unpack(const emomc_layer *layer, float *weights, const char **reason) {
    const unsigned char *stream = layer->data + (size_t)4 * layer->scales;
    if (layer->bits == 32) {
        for (size_t i = 0; i < layer->weights; i++) weights[i] = emomc_float(stream + 4 * i);
        return 0;
    }
    bit_reader from = {stream, 0}, mask = {stream, 0};
    size_t per_channel = layer->weights / layer->shape[0], position = 0;
    if (layer->coding == EMOMC_BITMAP) from.bit = layer->weights;
    for (size_t i = 0; i < layer->weights; i++) weights[i] = 0;
    for (uint32_t entry = 0; entry < layer->entries; entry++, position++) {
        if (layer->coding == EMOMC_CSR) {
            position += take_bits(&from, layer->index_bits);
        } else if (layer->coding == EMOMC_COO) {
            size_t next = take_bits(&from, layer->index_bits);
            if (next < position) return fail(reason, "positions out of order");
            position = next;
        } else if (layer->coding == EMOMC_BITMAP) {
            while (position < layer->weights && !take_bits(&mask, 1)) position++;
        }
        if (position >= layer->weights) return fail(reason, "a weight beyond the end of its layer");
        int32_t code = take_code(&from, layer->bits);
        if (code == -((int32_t)1 << (layer->bits - 1))) return fail(reason, "a code out of range");
        /* A filler of csr is a zero: it only moves the position. */
        weights[position] = (float)code * emomc_float(layer->data + 4 * (layer->scales > 1 ? position / per_channel : 0));
    }
    return 0;
}
