"""The C text of a program: one source that needs nothing else, and the header for who calls it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.streams import Stream
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.c.kernel_library import FLOATS, needed_text
from emomc.export.c.memory import MemoryPlan, plan_memory
from emomc.export.c.program import Call, Constant, Numbers, Program, Structure, Values
from emomc.export.c.text import WIDTH, float_text, lines_of
from emomc.packed_file.layout import CODING_NAMES
from emomc.packed_file.network import NetworkDescription, PackedLayer
from emomc.packed_file.writer import encode_layer

HEADER_END = "/* ---- the end of the header ---- */"
"""Line of the source up to which it is the same as the header."""
_MOST_STREAM_BYTES = 1 << 29
_RECORD_BYTES = 32
"""Of a ``packed_layer`` where pointers have 8 bytes."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a program needs on a device."""

    ram_bytes: int
    """Of all buffers at their largest; the stack comes on top."""
    flash_bytes: int
    """Of weights and other constants; the code comes on top."""


@dataclasses.dataclass(frozen=True)
class _Weights:
    stream: Stream
    layer: PackedLayer

    @property
    def coding(self) -> int:
        return FLOATS if self.layer.bits == UNCOMPRESSED_BITS else CODING_NAMES.index(self.stream.coding)

    @property
    def bytes(self) -> int:
        return len(self.stream.data) + 4 * len(self.layer.scale) + _RECORD_BYTES


def source_text(program: Program, description: NetworkDescription, name: str, coding: str) -> str:
    """Return the source of a program.

    Args:
        program: the network.
        description: of it.
        name: what the names of its functions begin with.
        coding: one of ``CODING_CHOICES``: how the weights are stored.

    Raises:
        UserError: a layer is too large for the counters of the decoder.
    """
    weights = [_Weights(encode_layer(layer, coding), layer) for layer in program.layers]
    for one in weights:
        if len(one.stream.data) >= _MOST_STREAM_BYTES:
            raise UserError(f"expected layers of less than {_MOST_STREAM_BYTES} bytes in C, found {one.layer.name}")
    plan, sizes = plan_memory(program), _sizes(program)
    flash = sum(one.bytes for one in weights) + sum(one.numbers.nbytes for one in program.constants)
    flash += sum(4 * len(one.fields if isinstance(one, Structure) else one.values) for one in sizes)
    kernels = needed_text([call.function for call in program.calls], [one.coding for one in weights])
    names: dict[Any, str] = {id(one.layer): f"layer_{number}" for number, one in enumerate(weights)}
    names |= {id(one): f"constant_{number}" for number, one in enumerate(program.constants)}
    names |= {one: f"sizes_{number}" for number, one in enumerate(sizes)}
    parts = [
        header_text(description, name, Memory(4 * plan.count, flash)),
        _PREAMBLE,
        kernels,
        *(_layer_text(number, one) for number, one in enumerate(weights)),
        *(_constant_text(names[id(one)], one.numbers) for one in program.constants),
        "".join(_sizes_text(one, names[one]) for one in sizes),
        _functions(program, plan, description, name, names),
        _main(description, name),
    ]
    return "\n".join(parts)


def header_text(description: NetworkDescription, name: str, memory: Memory) -> str:
    """Return the header of a program."""
    channels, height, width = description.input_shape
    upper = name.upper()
    classify = ""
    if description.mean:
        classify = f"""
/* Normalises an image of {channels} x {height} x {width} pixels, 0 to 255, channel by channel and row by row; returns
   its class. */
int {name}_classify(const unsigned char *pixels);
"""
    return f"""/* A network that emomc-export wrote, in C99. It needs nothing but math.h and string.h.

   RAM: {memory.ram_bytes:,} bytes for all buffers; those that are not needed at the same time share bytes. Weights are
   decoded one by one where they are used, so that no buffer holds those of a layer. The stack takes about 1 KiB.
   Flash: {memory.flash_bytes:,} bytes of weights and other constants; the code comes on top.

   {name}_input() is where the normalised image goes, (pixel / 255 - mean) / deviation, channel by channel and row
   by row; {name}_run() then returns the class scores, and writes over the image. Both use one static array: they are
   not for two threads at once. */
#ifndef {upper}_H
#define {upper}_H

enum {{
    {upper}_CHANNELS = {channels},
    {upper}_HEIGHT = {height},
    {upper}_WIDTH = {width},
    {upper}_CLASSES = {len(description.class_names)},
    {upper}_RAM_BYTES = {memory.ram_bytes},
    {upper}_FLASH_BYTES = {memory.flash_bytes}
}};

float *{name}_input(void);
const float *{name}_run(void);
{classify}
#endif
{HEADER_END}
"""


_PREAMBLE = """#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if INT_MAX < 2147483647
#error "integers of 32 bits are needed"
#endif
"""


def _layer_text(number: int, weights: _Weights) -> str:
    stream, layer = weights.stream, weights.layer
    numbers = lines_of(str(byte) for byte in (stream.data or b"\0"))
    text = f"/* {_comment(layer.name)}: {layer.codes.size} weights of {layer.bits} bits */\n"
    text += f"static const unsigned char stream_{number}[] = {{\n{numbers}\n}};\n"
    scales, per_scale = "NULL", layer.codes.size
    if len(layer.scale):
        text += _constant_text(f"scales_{number}", layer.scale)
        scales, per_scale = f"scales_{number}", layer.codes.size // len(layer.scale)
    fields = f"{layer.codes.size}, {per_scale}, {stream.entries}, {weights.coding}, {layer.bits}, {stream.index_bits}"
    return f"{text}static const packed_layer layer_{number} = {{stream_{number}, {scales}, {fields}}};\n"


def _comment(name: str) -> str:
    return name.replace("*/", "* /")


def _constant_text(name: str, numbers: NDArray[np.float32]) -> str:
    return f"static const float {name}[] = {{\n{lines_of(map(float_text, numbers.ravel().tolist()))}\n}};\n"


def _functions(
    program: Program, plan: MemoryPlan, description: NetworkDescription, name: str, names: Mapping[Any, str]
) -> str:
    calls = "".join(_call_text(call, plan, names) for call in program.calls)
    text = f"""static float memory[{plan.count}];

float *{name}_input(void) {{ return {_place(program.image, plan)}; }}

const float *{name}_run(void) {{
{calls}    return {_place(program.scores, plan)};
}}
"""
    if not description.mean:
        return text
    return f"""{_constant_text("means", np.array(description.mean, np.float32))}
{_constant_text("deviations", np.array(description.std, np.float32))}
{text}
int {name}_classify(const unsigned char *pixels) {{
    float *image = {name}_input();
    for (int c = 0; c < {name.upper()}_CHANNELS; c++)
        for (int i = 0; i < {name.upper()}_HEIGHT * {name.upper()}_WIDTH; i++)
            *image++ = ((float)*pixels++ / 255.0f - means[c]) / deviations[c];
    const float *scores = {name}_run();
    int best = 0;
    for (int i = 1; i < {name.upper()}_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}}
"""


def _call_text(call: Call, plan: MemoryPlan, names: Mapping[Any, str]) -> str:
    arguments = [_argument(one, plan, names) for one in call.arguments]
    lines, line = [], f"    {call.function}("
    for number, argument in enumerate(arguments):
        piece = argument + (", " if number < len(arguments) - 1 else ");")
        if len(line) + len(piece) > WIDTH:
            lines.append(line.rstrip())
            line = " " * 8
        line += piece
    return "\n".join([*lines, line]) + "\n"


def _argument(one: Any, plan: MemoryPlan, names: Mapping[Any, str]) -> str:
    if isinstance(one, Values):
        return _place(one, plan)
    if isinstance(one, Constant):
        return names[id(one)]
    if isinstance(one, PackedLayer):
        return f"&{names[id(one)]}"
    if isinstance(one, Numbers):
        return names[one]
    if isinstance(one, Structure):
        return f"&{names[one]}"
    return "NULL" if one is None else float_text(one) if isinstance(one, float) else str(one)


def _sizes(program: Program) -> list[Numbers | Structure]:
    """Return the arrays and structures of integers that calls take, each once."""
    found = (one for call in program.calls for one in call.arguments if isinstance(one, (Numbers, Structure)))
    return list(dict.fromkeys(found))


def _sizes_text(one: Numbers | Structure, name: str) -> str:
    if isinstance(one, Numbers):
        return f"static const int {name}[] = {{{', '.join(map(str, one.values))}}};\n"
    fields = lines_of(f".{field} = {value}" for field, value in one.fields)
    return f"static const {one.type} {name} = {{\n{fields}\n}};\n"


def _place(values: Values, plan: MemoryPlan) -> str:
    place = plan.offsets[values.buffer] + values.offset
    return f"memory + {place}" if place else "memory"


def _main(description: NetworkDescription, name: str) -> str:
    """Return a program for tests: the class of each image in a file, then its scores."""
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
   images, and the scores are written as they are in memory. */
#include <stdio.h>

int main(int argc, char **argv) {{{pixels if description.mean else ""}
    if (argc == 3 && !strcmp(argv[1], "--floats")) {{
        size_t count = {upper}_CHANNELS * {upper}_HEIGHT * {upper}_WIDTH;
        FILE *file = fopen(argv[2], "rb");
        if (!file) return 2;
        while (fread({name}_input(), sizeof(float), count, file) == count)
            if (fwrite({name}_run(), sizeof(float), {upper}_CLASSES, stdout) != {upper}_CLASSES) return 2;
        return fclose(file) ? 2 : 0;
    }}
    fprintf(stderr, "usage: %s {usage}--floats IMAGES.f32\\n", argv[0]);
    return 2;
}}
#endif
"""
