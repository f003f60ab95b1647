"""A program for tests around a network: the classes of the images in a file, or their scores."""

from __future__ import annotations

import numpy as np

from emomc.export.c.program import C_TYPES, Program
from emomc.export.c.text import float_text
from emomc.packed_file.network import NetworkDescription


def main_text(program: Program, description: NetworkDescription, name: str) -> str:
    """Return the text of ``main``, which is compiled if ``NAME_MAIN`` is defined."""
    upper = name.upper()
    pixels = f"""
    if (argc == 2) {{
        static unsigned char image[{upper}_CHANNELS * {upper}_HEIGHT * {upper}_WIDTH];
        FILE *file = fopen(argv[1], "rb");
        if (!file) return 2;
        while (fread(image, 1, sizeof image, file) == sizeof image) printf("%d\\n", {name}_classify(image));
        return fclose(file) ? 2 : 0;
    }}"""
    usage = "IMAGES.raw | " if description.mean else ""
    return f"""#ifdef {upper}_MAIN
/* For tests: prints the class of each image of a file of pixels. After --floats, the file has normalised float32
   images, and the scores are written as float32. */
#include <math.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {{{pixels if description.mean else ""}
    if (argc == 3 && !strcmp(argv[1], "--floats")) {{
        static float image[{upper}_CHANNELS * {upper}_HEIGHT * {upper}_WIDTH], scores[{upper}_CLASSES];
        size_t count = sizeof image / sizeof *image;
        FILE *file = fopen(argv[2], "rb");
        if (!file) return 2;
        while (fread(image, sizeof *image, count, file) == count) {{
            {C_TYPES[program.image.buffer.type]} *input = {name}_input();
            for (size_t i = 0; i < count; i++)
                input[i] = {_input(program, upper)};
            const {C_TYPES[program.scores.buffer.type]} *found = {name}_run();
            for (int i = 0; i < {upper}_CLASSES; i++) scores[i] = {_score(program, upper)};
            if (fwrite(scores, sizeof *scores, {upper}_CLASSES, stdout) != {upper}_CLASSES) return 2;
        }}
        return fclose(file) ? 2 : 0;
    }}
    fprintf(stderr, "usage: %s {usage}--floats IMAGES.f32\\n", argv[0]);
    return 2;
}}
#endif
"""


def _input(program: Program, upper: str) -> str:
    """Return the expression of what goes in for one number of the normalised image."""
    grid = program.image_grid
    if grid is None:
        return "image[i]"
    lowest, highest = (float_text(np.float32(code * grid.step)) for code in (grid.lowest, grid.highest))
    type = C_TYPES[program.image.buffer.type]
    return f"({type})nearbyintf(fminf(fmaxf(image[i], {lowest}), {highest}) / {upper}_INPUT_STEP)"


def _score(program: Program, upper: str) -> str:
    return "found[i]" if program.score_step is None else f"(float)found[i] * {upper}_SCORE_STEP"
