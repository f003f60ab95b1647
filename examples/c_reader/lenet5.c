/* Runs a packed LeNet-5 on raw images: one line per image, the class and the logits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emomc.h"

enum { FLOAT32 = 0, FLOAT16 = 2 }; /* types of tensors */
enum { SIDE = 32, MAX_FLOATS = 8 * 28 * 28 };

typedef struct {
    float *weights, *bias;
    int in, out, kernel;
    float least, most, step; /* of the inputs; a step of 0 if they are not rounded */
} layer;

static void die(const char *what, const char *reason) {
    fprintf(stderr, "%s: found %s\n", what, reason);
    exit(2);
}

/* Unpacks a layer after checking that it has the sizes of LeNet-5. */
static layer unpack(const emomc_network *network, const char *name, int in, int out, int kernel) {
    char bias_name[64];
    const char *reason = "no such layer";
    const emomc_layer *packed = emomc_find_layer(network, name);
    snprintf(bias_name, sizeof bias_name, "%s.bias", name);
    const emomc_tensor *bias = emomc_find_tensor(network, bias_name);
    if (!packed || !bias || (bias->type != FLOAT32 && bias->type != FLOAT16) || bias->count != (size_t)out) die(name, reason);
    if (packed->shape[0] != (uint32_t)out || packed->weights != (size_t)in * out * kernel * kernel) die(name, "another size");
    uint32_t magnitude_bits = packed->input_signed ? packed->input_bits - 1 : packed->input_bits;
    float most = (float)((1 << magnitude_bits) - 1) * packed->input_step;
    layer made = {malloc(packed->weights * sizeof(float)), malloc(out * sizeof(float)), in, out, kernel,
                  packed->input_signed ? -most : 0, most, packed->input_step};
    if (!made.weights || !made.bias) die(name, "no memory");
    if (emomc_unpack(packed, made.weights, &reason)) die(name, reason);
    for (int i = 0; i < out; i++)
        made.bias[i] = bias->type == FLOAT16 ? emomc_half(bias->data + 2 * i) : emomc_float(bias->data + 4 * i);
    return made;
}

static float relu(float value) { return value > 0 ? value : 0; }

/* Rounds the inputs of a layer, in place; half-way between two codes, to the even one. */
static void round_inputs(const layer *l, float *input, int count) {
    for (int i = 0; l->step > 0 && i < count; i++) {
        float clipped = fminf(fmaxf(input[i], l->least), l->most);
        input[i] = nearbyintf(clipped / l->step) * l->step;
    }
}

/* Maps (in, side, side) to (out, side - kernel + 1, the same), through ReLU; returns the new side. */
static int convolve(const layer *l, float *input, int side, float *output) {
    int k = l->kernel, new_side = side - k + 1;
    round_inputs(l, input, l->in * side * side);
    for (int o = 0; o < l->out; o++)
        for (int y = 0; y < new_side; y++)
            for (int x = 0; x < new_side; x++) {
                float sum = l->bias[o];
                for (int c = 0; c < l->in; c++)
                    for (int dy = 0; dy < k; dy++)
                        for (int dx = 0; dx < k; dx++)
                            sum += input[(c * side + y + dy) * side + x + dx] *
                                   l->weights[((o * l->in + c) * k + dy) * k + dx];
                output[(o * new_side + y) * new_side + x] = relu(sum);
            }
    return new_side;
}

/* Takes the largest of each 2x2 pixels, in place; returns the new side. */
static int pool(float *maps, int channels, int side) {
    int half = side / 2;
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < half; y++)
            for (int x = 0; x < half; x++) {
                const float *corner = maps + (c * side + 2 * y) * side + 2 * x;
                maps[(c * half + y) * half + x] =
                    fmaxf(fmaxf(corner[0], corner[1]), fmaxf(corner[side], corner[side + 1]));
            }
    return half;
}

static void multiply(const layer *l, float *input, float *output) {
    round_inputs(l, input, l->in);
    for (int o = 0; o < l->out; o++) {
        output[o] = l->bias[o];
        for (int i = 0; i < l->in; i++) output[o] += input[i] * l->weights[o * l->in + i];
    }
}

int main(int argc, char **argv) {
    emomc_network network;
    const char *reason = "nothing";
    if (argc != 3) {
        fprintf(stderr, "usage: %s NETWORK.emomc IMAGES.raw  (bytes 0..255: images x channels x 32 x 32)\n", argv[0]);
        return 2;
    }
    if (emomc_open(argv[1], &network, &reason)) die(argv[1], reason);
    int channels = (int)network.channels, classes = (int)network.classes;
    if (network.height != SIDE || network.width != SIDE || channels > 4 || classes > 4096 || !network.normalisation)
        die(argv[1], "no LeNet-5 for images of 32x32 with a known normalisation");
    layer conv1 = unpack(&network, "conv1", channels, 6, 5), conv2 = unpack(&network, "conv2", 6, 16, 5);
    layer conv3 = unpack(&network, "conv3", 16, 120, 5), linear1 = unpack(&network, "linear1", 120, 84, 1);
    layer linear2 = unpack(&network, "linear2", 84, classes, 1);

    FILE *images = fopen(argv[2], "rb");
    if (!images) die(argv[2], "no such file");
    static unsigned char raw[4 * SIDE * SIDE];
    static float one[MAX_FLOATS], other[MAX_FLOATS];
    size_t image_bytes = (size_t)channels * SIDE * SIDE;
    while (fread(raw, 1, image_bytes, images) == image_bytes) {
        for (int c = 0; c < channels; c++) {
            float mean = emomc_float(network.normalisation + 4 * c);
            float deviation = emomc_float(network.normalisation + 4 * (channels + c));
            for (int i = c * SIDE * SIDE; i < (c + 1) * SIDE * SIDE; i++) one[i] = (raw[i] / 255.0f - mean) / deviation;
        }
        int side = convolve(&conv1, one, SIDE, other);
        side = convolve(&conv2, other, pool(other, 6, side), one);
        convolve(&conv3, one, pool(one, 16, side), other);
        multiply(&linear1, other, one);
        for (int i = 0; i < linear1.out; i++) one[i] = relu(one[i]);
        float logits[4096];
        multiply(&linear2, one, logits);
        int best = 0;
        for (int i = 1; i < classes; i++)
            if (logits[i] > logits[best]) best = i;
        printf("%d", best);
        for (int i = 0; i < classes; i++) printf(" %.9g", logits[i]);
        printf("\n");
    }
    fclose(images);
    layer all[] = {conv1, conv2, conv3, linear1, linear2};
    for (int i = 0; i < 5; i++) {
        free(all[i].weights);
        free(all[i].bias);
    }
    emomc_close(&network);
    return 0;
}
