#include "emomc.h"

#include <float.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 56, CHECKSUM_BYTES = 4 };
enum { NO_GAPS = 31, MAX_SPLIT = 7, MAX_SYMBOLS = 136, MAX_LENGTH = 15 }; /* of the coding huffman */
static const uint32_t MAX_RECORDS = 1u << 16;
static const size_t MAX_WEIGHTS = (size_t)1 << 28;
enum { ONE_SCALE = 1, CHANNEL_SCALES = 2, HALF_SCALES = 3 };
enum { LEAST_EXPONENT = -115, MOST_EXPONENT = 114 }; /* that float16 scales may share */
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

float emomc_half(const unsigned char *bytes) {
    uint32_t half = (uint32_t)number(bytes, 2), exponent = half >> 10 & 0x1F, fraction = half & 0x3FF;
    /* Float32 has exponents that are larger by 112, and three more digits of 16; 31 is infinity or NaN in float16. */
    uint32_t pattern = (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    float value = (float)fraction * 0x1p-24f;
    if (exponent) memcpy(&value, &pattern, sizeof value);
    return half >> 15 ? -value : value;
}

static float power_of_two(int exponent) {
    uint32_t pattern = (uint32_t)(exponent + 127) << 23;
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

/* Inputs of an output channel, and weights of each of them. */
static size_t inputs_of(const emomc_layer *layer) { return layer->shape[1]; }
static size_t taps_of(const emomc_layer *layer) { return layer->weights / layer->shape[0] / layer->shape[1]; }

/* Parts of so many, to the power of two, that cover a side. */
static size_t parts(size_t side, uint32_t doublings) { return ((side - 1) >> doublings) + 1; }

/* Entries of the coding nm with `few` in each group of inputs; the last group may have fewer inputs. */
static uint64_t group_entries(const emomc_layer *layer, size_t few) {
    size_t groups = inputs_of(layer) >> layer->index_bits, left = inputs_of(layer) & (((size_t)1 << layer->index_bits) - 1);
    return (uint64_t)layer->shape[0] * taps_of(layer) * (groups * few + (few < left ? few : left));
}

/* Blocks of outputs x inputs; the index bits hold both sides. */
static size_t blocks_of(const emomc_layer *layer) {
    return parts(layer->shape[0], layer->index_bits >> 3) * parts(inputs_of(layer), layer->index_bits & 7) * taps_of(layer);
}

static uint64_t stream_bits(const emomc_layer *layer) {
    if (layer->coding == EMOMC_BLOCK) return blocks_of(layer) + (uint64_t)layer->entries * layer->bits;
    uint64_t entries = (uint64_t)layer->entries * (layer->bits + layer->index_bits);
    return layer->coding == EMOMC_BITMAP ? layer->weights + entries : entries;
}

static int check_index_bits(const emomc_layer *layer) {
    uint32_t index = layer->index_bits;
    switch (layer->coding) {
        case EMOMC_CSR: return index <= 31;
        case EMOMC_COO: return index == position_bits(layer->weights);
        case EMOMC_HUFFMAN: return index <= 28 || index == NO_GAPS;
        case EMOMC_NM: return index >= 1 && index <= 4;
        case EMOMC_BLOCK: return index && index >> 3 <= 4 && (index & 7) <= 4;
        default: return index == 0;
    }
}

static int check_layer(const emomc_layer *layer, const char **reason) {
    if (layer->bits == 32) {
        if (layer->coding != EMOMC_NORMAL || layer->scales) return fail(reason, "float weights in a coding");
    } else if (layer->bits < 2 || layer->bits > 16) {
        return fail(reason, "bits out of range");
    } else if (layer->scales != 1 && layer->scales != layer->shape[0]) {
        return fail(reason, "neither one scale nor one per channel");
    }
    if (layer->coding > EMOMC_BLOCK) return fail(reason, "an unknown coding");
    if (!check_index_bits(layer)) return fail(reason, "index bits out of range");
    int all = layer->coding == EMOMC_NORMAL || (layer->coding == EMOMC_HUFFMAN && layer->index_bits == NO_GAPS);
    if (layer->entries > layer->weights || (all && layer->entries != layer->weights))
        return fail(reason, "more entries than weights, or fewer");
    /* How long a huffman stream is shows only when it is read. */
    if (layer->coding != EMOMC_HUFFMAN && layer->stream_bytes != (stream_bits(layer) + 7) / 8)
        return fail(reason, "a stream of another length");
    return 0;
}

static int read_shape(walk *at, uint32_t *shape, uint32_t dimensions) {
    const unsigned char *sides = take(at, (uint64_t)4 * dimensions);
    if (!sides) return -1;
    for (uint32_t i = 0; i < dimensions; i++) shape[i] = (uint32_t)number(sides + 4 * i, 4);
    return 0;
}

/* Reads the grid that a layer's inputs are rounded to; its bits are in the record, its step follows the shape. */
static int read_inputs(walk *at, uint32_t bits, emomc_layer *layer, const char **reason) {
    if (!bits) return 0;
    const unsigned char *step = take(at, 4);
    if (!step) return fail(reason, "more layers than bytes");
    layer->input_bits = bits & 0x7F;
    layer->input_signed = bits >> 7;
    layer->input_step = emomc_float(step);
    if (layer->input_bits < 2 || layer->input_bits > 15) return fail(reason, "bits of inputs out of range");
    return layer->input_step > 0 && layer->input_step <= FLT_MAX ? 0 : fail(reason, "a step of inputs out of range");
}

static int read_layer_record(walk *at, uint32_t version, emomc_layer *layer, const char **reason) {
    const unsigned char *record = take(at, 16);
    if (!record) return fail(reason, "more layers than bytes");
    layer->name_bytes = (uint32_t)number(record, 2);
    layer->dimensions = record[2];
    layer->bits = record[3];
    layer->coding = record[4];
    layer->index_bits = record[5];
    layer->entries = (uint32_t)number(record + 8, 4);
    layer->stream_bytes = (uint32_t)number(record + 12, 4);
    if (layer->dimensions < 2 || layer->dimensions > 4 || record[6] > (version < 4 ? CHANNEL_SCALES : HALF_SCALES) ||
        (version == 2 && record[7]) || (version < 5 && layer->coding > EMOMC_HUFFMAN && layer->coding <= EMOMC_BLOCK))
        return fail(reason, "no convolution or linear layer");
    if (read_shape(at, layer->shape, layer->dimensions)) return fail(reason, "more layers than bytes");
    layer->scales = record[6] > ONE_SCALE ? layer->shape[0] : record[6];
    layer->half_scales = record[6] == HALF_SCALES;
    if (layer->half_scales && layer->scales < 2) return fail(reason, "one scale in float16");
    return read_inputs(at, record[7], layer, reason);
}

static int read_tensor_record(walk *at, emomc_tensor *tensor, const char **reason) {
    const unsigned char *record = take(at, 4);
    if (!record) return fail(reason, "more tensors than bytes");
    tensor->name_bytes = (uint32_t)number(record, 2);
    tensor->type = record[2];
    tensor->dimensions = record[3];
    if (tensor->type >= sizeof TYPE_BYTES || tensor->dimensions > 6) return fail(reason, "an unknown type of tensor");
    return read_shape(at, tensor->shape, tensor->dimensions) ? fail(reason, "more tensors than bytes") : 0;
}

static size_t scale_bytes(const emomc_layer *layer) {
    return layer->half_scales ? 2 + (size_t)2 * layer->scales : (size_t)4 * layer->scales;
}

/* Reads the power of two by which the float16 scales of a layer are multiplied. */
static int read_unit(emomc_layer *layer, const char **reason) {
    int exponent = (int)number(layer->data, 2);
    if (exponent >> 15) exponent -= 0x10000;
    if (exponent < LEAST_EXPONENT || exponent > MOST_EXPONENT) return fail(reason, "scales out of range");
    layer->scale_unit = power_of_two(exponent);
    return 0;
}

static int read_layer(emomc_layer *layer, walk *names, walk *data, size_t *weights_left, const char **reason) {
    if (!(layer->name = (const char *)take(names, layer->name_bytes))) return fail(reason, "a name beyond the names");
    layer->weights = product(layer->shape, layer->dimensions, *weights_left);
    if (!layer->weights) return fail(reason, "no weights, or too many");
    *weights_left -= layer->weights;
    if (check_layer(layer, reason)) return -1;
    layer->data = take(data, (uint64_t)scale_bytes(layer) + layer->stream_bytes);
    if (!layer->data || align(data)) return fail(reason, "a layer beyond the end of the file");
    return layer->half_scales ? read_unit(layer, reason) : 0;
}

static int read_tensor(emomc_tensor *tensor, walk *names, walk *data, const char **reason) {
    if (!(tensor->name = (const char *)take(names, tensor->name_bytes))) return fail(reason, "a name beyond the names");
    tensor->count = product(tensor->shape, tensor->dimensions, data->end / TYPE_BYTES[tensor->type]);
    if (!tensor->count) return fail(reason, "no numbers in a tensor, or too many");
    tensor->data = take(data, (uint64_t)tensor->count * TYPE_BYTES[tensor->type]);
    return tensor->data && !align(data) ? 0 : fail(reason, "a tensor beyond the end of the file");
}

static int parse(emomc_network *network, const char **reason) {
    const unsigned char *header = network->file;
    size_t end = network->file_bytes - CHECKSUM_BYTES, weights_left = MAX_WEIGHTS;
    if (network->file_bytes < HEADER_BYTES + CHECKSUM_BYTES || memcmp(header, "EMOMC\r\n\x1a", 8))
        return fail(reason, "no packed network");
    uint32_t version = (uint32_t)number(header + 8, 4);
    if (version < 2 || version > 5) return fail(reason, "another format version than 2 to 5");
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
    network->layers = calloc(network->layer_count, sizeof *network->layers);
    network->tensors = calloc(network->tensor_count + 1, sizeof *network->tensors);
    if (!network->layers || !network->tensors) return fail(reason, "no memory");
    for (uint32_t i = 0; i < network->layer_count; i++)
        if (read_layer_record(&data, version, &network->layers[i], reason)) return -1;
    for (uint32_t i = 0; i < network->tensor_count; i++)
        if (read_tensor_record(&data, &network->tensors[i], reason)) return -1;
    const unsigned char *text = take(&data, names_bytes);
    network->metadata = (const char *)take(&data, network->metadata_bytes);
    if (!text || !network->metadata || align(&data)) return fail(reason, "more names or metadata than bytes");
    walk names = {text, 0, names_bytes};
    for (uint32_t i = 0; i < network->layer_count; i++)
        if (read_layer(&network->layers[i], &names, &data, &weights_left, reason)) return -1;
    for (uint32_t i = 0; i < network->tensor_count; i++)
        if (read_tensor(&network->tensors[i], &names, &data, reason)) return -1;
    if (names.position != names.end) return fail(reason, "names left over");
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
    uint64_t bit, end; /* from the end on there are only zeros */
} bit_reader;

static uint32_t take_bits(bit_reader *from, uint32_t count) {
    uint32_t value = 0, found = 0;
    while (found < count) {
        uint32_t used = from->bit & 7, some = 8 - used;
        if (some > count - found) some = count - found;
        uint32_t byte = from->bit < from->end ? from->data[from->bit >> 3] : 0;
        value |= (byte >> used & ((1u << some) - 1)) << found;
        found += some;
        from->bit += some;
    }
    return value;
}

static int32_t take_code(bit_reader *from, uint32_t bits) {
    int32_t value = (int32_t)take_bits(from, bits);
    return value >> (bits - 1) ? value - ((int32_t)1 << bits) : value;
}

static float scale_at(const emomc_layer *layer, size_t position, size_t per_channel) {
    size_t channel = layer->scales > 1 ? position / per_channel : 0;
    if (!layer->half_scales) return emomc_float(layer->data + 4 * channel);
    return emomc_half(layer->data + 2 + 2 * channel) * layer->scale_unit;
}

/* ---- the coding huffman: its tables take 175 bytes ---- */

typedef struct {
    uint32_t split, only;               /* `only`: the one symbol there is, whose code has no bits */
    uint16_t lengths[MAX_LENGTH + 1];   /* codes of each length */
    unsigned char symbols[MAX_SYMBOLS]; /* in the order of their codes */
} symbol_table;

static int read_table(bit_reader *from, const emomc_layer *layer, symbol_table *table) {
    unsigned char length[MAX_SYMBOLS];
    uint32_t bits = layer->bits;
    table->split = take_bits(from, 4);
    uint32_t count = take_bits(from, 8), left = 1u << MAX_LENGTH, used = 0;
    if (table->split > MAX_SPLIT || table->split > bits - 1) return -1;
    if (count < (layer->index_bits == NO_GAPS ? 2 : 1) || count > (1u << table->split) + bits - 1 - table->split) return -1;
    memset(table->lengths, 0, sizeof table->lengths);
    for (uint32_t i = 0; i < count; i++) table->lengths[length[i] = (unsigned char)take_bits(from, 4)]++;
    for (uint32_t n = 1; n <= MAX_LENGTH; n++) {
        uint32_t taken = (uint32_t)table->lengths[n] << (MAX_LENGTH - n);
        if (taken > left) return -1;
        left -= taken;
        for (uint32_t i = 0; i < count; i++)
            if (length[i] == n) table->symbols[used++] = (unsigned char)i;
    }
    table->only = count - 1;
    return used && left ? -1 : 0;
}

static uint32_t take_symbol(bit_reader *from, const symbol_table *table) {
    if (table->lengths[0] == table->only + 1) return table->only;
    uint32_t code = 0, first = 0, before = 0; /* the first code of this length, the codes of shorter ones */
    for (uint32_t length = 1; length <= MAX_LENGTH; length++) {
        code = code << 1 | take_bits(from, 1);
        uint32_t count = table->lengths[length];
        if (code < first + count) return table->symbols[before + code - first];
        before += count;
        first = (first + count) << 1;
    }
    return 0; /* a complete code does not come here */
}

static int unpack_huffman(const emomc_layer *layer, bit_reader from, float *weights, const char **reason) {
    size_t per_channel = layer->weights / layer->shape[0], position = 0;
    int32_t largest = ((int32_t)1 << (layer->bits - 1)) - 1;
    int with_gaps = layer->index_bits != NO_GAPS;
    symbol_table table;
    if (!layer->entries) return layer->stream_bytes ? fail(reason, "a stream without entries") : 0;
    if (read_table(&from, layer, &table)) return fail(reason, "no table of symbols");
    for (uint32_t entry = 0; entry < layer->entries; entry++, position++) {
        if (with_gaps) {
            size_t zeros = 0;
            while (!take_bits(&from, 1) && from.bit < from.end) zeros++;
            if (zeros > layer->weights >> layer->index_bits) return fail(reason, "a weight beyond the end of its layer");
            position += (zeros << layer->index_bits) + take_bits(&from, layer->index_bits);
        }
        if (position >= layer->weights) return fail(reason, "a weight beyond the end of its layer");
        uint32_t value = take_symbol(&from, &table);
        if (value >> table.split) {
            uint32_t extra = value - (1u << table.split) + table.split;
            value = 1u << extra | take_bits(&from, extra);
        }
        int32_t code = (int32_t)value + with_gaps;
        if (code > largest) return fail(reason, "a code out of range");
        if (code && take_bits(&from, 1)) code = -code;
        if (from.bit > from.end) return fail(reason, "entries beyond the end of a stream");
        weights[position] = (float)code * scale_at(layer, position, per_channel);
    }
    return from.end - from.bit < 8 ? 0 : fail(reason, "bytes left over in a stream");
}

/* Reads a code that may be zero, into its place. */
static int unpack_code(const emomc_layer *layer, bit_reader *from, size_t position, float *weights, const char **reason) {
    int32_t code = take_code(from, layer->bits);
    if (code == -((int32_t)1 << (layer->bits - 1))) return fail(reason, "a code out of range");
    weights[position] = (float)code * scale_at(layer, position, layer->weights / layer->shape[0]);
    return 0;
}

static int unpack_nm(const emomc_layer *layer, bit_reader from, float *weights, const char **reason) {
    size_t inputs = inputs_of(layer), taps = taps_of(layer), size = (size_t)1 << layer->index_bits, few = 0;
    while (few < size && group_entries(layer, few) != layer->entries) few++;
    if (group_entries(layer, few) != layer->entries) return fail(reason, "another number of weights in some groups");
    for (size_t output = 0; output < layer->shape[0]; output++)
        for (size_t first = 0; first < inputs; first += size)
            for (size_t tap = 0; tap < taps; tap++) {
                size_t room = inputs - first < size ? inputs - first : size, next = 0;
                for (size_t n = 0; n < (few < room ? few : room); n++) {
                    size_t index = take_bits(&from, layer->index_bits);
                    if (index < next || index >= room) return fail(reason, "indices out of order in a group");
                    next = index + 1;
                    size_t position = (output * inputs + first + index) * taps + tap;
                    if (unpack_code(layer, &from, position, weights, reason)) return -1;
                }
            }
    return 0;
}

static int unpack_blocks(const emomc_layer *layer, bit_reader from, float *weights, const char **reason) {
    size_t inputs = inputs_of(layer), taps = taps_of(layer), across = parts(inputs, layer->index_bits & 7), found = 0;
    bit_reader mask = from;
    from.bit = blocks_of(layer);
    for (size_t position = 0; position < layer->weights; position++) {
        size_t output = position / taps / inputs, input = position / taps % inputs;
        size_t row = output >> (layer->index_bits >> 3), column = input >> (layer->index_bits & 7);
        mask.bit = (row * across + column) * taps + position % taps;
        if (!take_bits(&mask, 1)) continue;
        if (found++ >= layer->entries) return fail(reason, "more weights in blocks than entries");
        if (unpack_code(layer, &from, position, weights, reason)) return -1;
    }
    return found == layer->entries ? 0 : fail(reason, "fewer weights in blocks than entries");
}

int emomc_unpack(const emomc_layer *layer, float *weights, const char **reason) {
    const unsigned char *stream = layer->data + scale_bytes(layer);
    if (layer->bits == 32) {
        for (size_t i = 0; i < layer->weights; i++) weights[i] = emomc_float(stream + 4 * i);
        return 0;
    }
    bit_reader from = {stream, 0, (uint64_t)8 * layer->stream_bytes}, mask = from;
    size_t per_channel = layer->weights / layer->shape[0], position = 0;
    for (size_t i = 0; i < layer->weights; i++) weights[i] = 0;
    if (layer->coding == EMOMC_HUFFMAN) return unpack_huffman(layer, from, weights, reason);
    if (layer->coding == EMOMC_NM) return unpack_nm(layer, from, weights, reason);
    if (layer->coding == EMOMC_BLOCK) return unpack_blocks(layer, from, weights, reason);
    if (layer->coding == EMOMC_BITMAP) from.bit = layer->weights;
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
        weights[position] = (float)code * scale_at(layer, position, per_channel);
    }
    return 0;
}
