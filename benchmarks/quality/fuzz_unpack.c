/* Reads the path of a packed file per line and answers with a line each: `read N SUM` or `refused: REASON`.
   N is the number of layers, and SUM depends on every weight and its place, and on the grid of each layer's inputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emomc.h"

static uint32_t pattern_of(float number) {
    uint32_t pattern;
    memcpy(&pattern, &number, sizeof pattern);
    return pattern;
}

/* Adds up the patterns of all weights, each times its place, and of the grids; returns -1 if a layer is refused. */
static int add_up(const emomc_network *network, uint64_t *sum, const char **reason) {
    uint64_t place = 0;
    for (uint32_t i = 0; i < network->layer_count; i++) {
        const emomc_layer *layer = &network->layers[i];
        float *weights = malloc(layer->weights * sizeof *weights);
        *reason = "no memory";
        int failed = !weights || emomc_unpack(layer, weights, reason);
        for (size_t k = 0; !failed && k < layer->weights; k++) {
            float weight = weights[k] + 0.0f; /* no negative zero */
            *sum += ++place * pattern_of(weight);
        }
        if (layer->input_bits)
            *sum += (uint64_t)pattern_of(layer->input_step) * (2 * layer->input_bits + (uint32_t)layer->input_signed);
        free(weights);
        if (failed) return -1;
    }
    return 0;
}

int main(void) {
    char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        emomc_network network;
        const char *reason = "nothing";
        uint64_t sum = 0;
        path[strcspn(path, "\n")] = 0;
        if (emomc_open(path, &network, &reason)) {
            printf("refused: %s\n", reason);
        } else {
            if (add_up(&network, &sum, &reason)) printf("refused: %s\n", reason);
            else printf("read %u %llu\n", (unsigned)network.layer_count, (unsigned long long)sum);
            emomc_close(&network);
        }
        fflush(stdout);
    }
    return 0;
}
