/* Unpacks a layer of a packed network so many times and prints the seconds of the fastest. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "emomc.h"

int main(int argc, char **argv) {
    emomc_network network;
    const char *reason = "nothing";
    if (argc != 4 || emomc_open(argv[1], &network, &reason)) {
        fprintf(stderr, "usage: %s NETWORK.emomc LAYER TIMES, found %s\n", argv[0], reason);
        return 2;
    }
    const emomc_layer *layer = emomc_find_layer(&network, argv[2]);
    float *weights = layer ? malloc(layer->weights * sizeof *weights) : NULL;
    double fastest = 1e9;
    for (int times = atoi(argv[3]); times > 0; times--) {
        clock_t begun = clock();
        if (!weights || emomc_unpack(layer, weights, &reason)) {
            fprintf(stderr, "%s: found %s\n", argv[2], reason);
            return 2;
        }
        double seconds = (double)(clock() - begun) / CLOCKS_PER_SEC;
        if (seconds < fastest) fastest = seconds;
    }
    printf("%.9f\n", fastest);
    free(weights);
    emomc_close(&network);
    return 0;
}
