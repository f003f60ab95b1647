/* Lists a packed network; with the name of a layer, writes its weights as raw float32 to standard output. */
#include <stdio.h>
#include <stdlib.h>

#include "emomc.h"

static const char *const CODINGS[] = {"normal", "csr", "coo", "bitmap", "huffman", "nm", "block"};

static void list(const emomc_network *network) {
    printf("%.*s\n", (int)network->metadata_bytes, network->metadata);
    for (uint32_t i = 0; i < network->layer_count; i++) {
        const emomc_layer *layer = &network->layers[i];
        printf("%.*s: %lu weights, %u bits, %s, %u bytes", (int)layer->name_bytes, layer->name,
               (unsigned long)layer->weights, (unsigned)layer->bits, CODINGS[layer->coding],
               (unsigned)layer->stream_bytes);
        if (layer->input_bits)
            printf("; inputs of %u bits%s in steps of %.9g", (unsigned)layer->input_bits,
                   layer->input_signed ? " with sign" : "", layer->input_step);
        printf("\n");
    }
    for (uint32_t i = 0; i < network->tensor_count; i++) {
        const emomc_tensor *tensor = &network->tensors[i];
        printf("%.*s: %lu numbers of type %u\n", (int)tensor->name_bytes, tensor->name, (unsigned long)tensor->count,
               (unsigned)tensor->type);
    }
}

int main(int argc, char **argv) {
    emomc_network network;
    const char *reason = "nothing";
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: %s NETWORK.emomc [LAYER]\n", argv[0]);
        return 2;
    }
    if (emomc_open(argv[1], &network, &reason)) {
        fprintf(stderr, "%s: found %s\n", argv[1], reason);
        return 2;
    }
    if (argc == 2) {
        list(&network);
        emomc_close(&network);
        return 0;
    }
    const emomc_layer *layer = emomc_find_layer(&network, argv[2]);
    float *weights = layer ? malloc(layer->weights * sizeof *weights) : NULL;
    if (!layer) reason = "no such layer";
    int failed = !weights || emomc_unpack(layer, weights, &reason) ||
                 fwrite(weights, sizeof *weights, layer->weights, stdout) != layer->weights;
    if (failed) fprintf(stderr, "%s: found %s\n", argv[2], reason);
    free(weights);
    emomc_close(&network);
    return failed ? 2 : 0;
}
