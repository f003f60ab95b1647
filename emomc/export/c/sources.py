"""The C text of a program: one source that needs nothing else, and the header for who calls it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.activation_grid import grid_codes
from emomc.compression.pattern_counts import shape_of
from emomc.compression.streams import Stream
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.c.footprint import footprint, has_decoder_table, has_shapes, takes_scales
from emomc.export.c.header import header_text
from emomc.export.c.kernel_library import FLOATS, HUFFMAN, needed_text
from emomc.export.c.main import main_text
from emomc.export.c.memory import MemoryPlan, plan_memory
from emomc.export.c.program import C_TYPES, Buffer, Call, Constant, Numbers, Program, Structure, Values
from emomc.export.c.text import WIDTH, float_text, lines_of
from emomc.packed_file.layout import CODING_NAMES
from emomc.packed_file.network import NetworkDescription, PackedLayer
from emomc.packed_file.writer import encode_layer

_MOST_STREAM_BYTES = 1 << 29


@dataclasses.dataclass(frozen=True)
class _Weights:
    stream: Stream
    layer: PackedLayer

    @property
    def coding(self) -> int:
        return FLOATS if self.layer.bits == UNCOMPRESSED_BITS else CODING_NAMES.index(self.stream.coding)


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
    plan, tables = plan_memory(program), program.tables
    needs = footprint(program, coding, channels=len(description.mean))
    codings = {one.coding for one in weights}
    if table := has_decoder_table(program, coding):
        # Static data may not depend on which coding is the shortest.
        codings.add(HUFFMAN)
    functions, shaped = [call.function for call in program.calls], has_shapes(coding)
    kernels = needed_text(functions, codings, _memory_text(plan, table=table), shaped=shaped)
    names: dict[Any, str] = {id(one.layer): f"layer_{number}" for number, one in enumerate(weights)}
    names |= {id(one): f"constant_{number}" for number, one in enumerate(program.constants)}
    names |= {
        one: f"{one.type if isinstance(one, Structure) else 'sizes'}_{number}" for number, one in enumerate(tables)
    }
    parts = [
        header_text(program, description, name, needs),
        _preamble(program),
        kernels,
        *(
            _layer_text(number, one, scales=takes_scales(program, one.layer), shaped=shaped)
            for number, one in enumerate(weights)
        ),
        *(_constant_text(names[id(one)], one.numbers) for one in program.constants),
        "".join(_table_text(one, names) for one in tables),
        _functions(program, plan, description, name, names),
        main_text(program, description, name),
    ]
    return "\n".join(parts)


def _preamble(program: Program) -> str:
    used = (values for call in program.calls for values in (*call.reads, call.output))
    for_floats = ["math", "string"] if any(values.buffer.type == "f32" for values in used) else []
    included = "".join(f"#include <{one}.h>\n" for one in sorted(["limits", "stddef", "stdint", *for_floats]))
    return f"""{included}
#if INT_MAX < 2147483647
#error "integers of 32 bits are needed"
#endif
"""


def _layer_text(number: int, weights: _Weights, *, scales: bool, shaped: bool) -> str:
    stream, layer = weights.stream, weights.layer
    numbers = lines_of(str(byte) for byte in (stream.data or b"\0"))
    text = f"/* {_comment(layer.name)}: {layer.codes.size} weights of {layer.bits} bits */\n"
    text += f"static const unsigned char stream_{number}[] = {{\n{numbers}\n}};\n"
    factors, per_scale = "NULL", layer.codes.size
    if scales and len(layer.scale):
        text += _constant_text(f"scales_{number}", layer.scale)
        factors, per_scale = f"scales_{number}", layer.codes.size // len(layer.scale)
    fields = f"{layer.codes.size}, {per_scale}, {stream.entries}, {weights.coding}, {layer.bits}, {stream.index_bits}"
    if shaped:
        _, inputs, taps = shape_of(layer.codes.shape)
        fields += f", {inputs}, {taps}"
    return f"{text}static const packed_layer layer_{number} = {{stream_{number}, {factors}, {fields}}};\n"


def _comment(name: str) -> str:
    return name.replace("*/", "* /")


def _constant_text(name: str, numbers: NDArray[Any]) -> str:
    """Return an array of constants; of two dimensions as one of arrays."""
    texts = map(float_text if numbers.dtype == np.float32 else _integer_text, numbers.ravel().tolist())
    type = "float" if numbers.dtype == np.float32 else f"{numbers.dtype}_t"
    return f"static const {type} {name}[] = {{\n{lines_of(texts)}\n}};\n"


def _integer_text(number: int) -> str:
    """Return an integer as a C constant; the one below all others has no text of its own."""
    if -(1 << 31) <= number < 1 << 31:
        return str(number) if number > -(1 << 31) else "INT32_MIN"
    return f"INT64_C({number})"


def _functions(
    program: Program, plan: MemoryPlan, description: NetworkDescription, name: str, names: Mapping[Any, str]
) -> str:
    calls = "".join(_call_text(call, plan, names) for call in program.calls)
    image, scores = (C_TYPES[values.buffer.type] for values in (program.image, program.scores))
    text = f"""{image} *{name}_input(void) {{ return {_place(program.image, plan)}; }}

const {scores} *{name}_run(void) {{
{calls}    return {_place(program.scores, plan)};
}}
"""
    if not description.mean:
        return text
    tables, pixel = _normalisation(program, description)
    return f"""{tables}
{text}
int {name}_classify(const unsigned char *pixels) {{
    {image} *image = {name}_input();
    for (int c = 0; c < {name.upper()}_CHANNELS; c++)
        for (int i = 0; i < {name.upper()}_HEIGHT * {name.upper()}_WIDTH; i++)
            *image++ = {pixel};
    const {scores} *scores = {name}_run();
    int best = 0;
    for (int i = 1; i < {name.upper()}_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}}
"""


def _memory_text(plan: MemoryPlan, *, table: bool) -> str:
    types = sorted({buffer.type for buffer in plan.offsets})
    sizes = {type: plan.bytes // Buffer(1, type).bytes for type in types}
    members = "".join(f"        {C_TYPES[type]} {type}[{size}];\n" for type, size in sizes.items())
    first = "    symbol_table table; /* of the layer that is being decoded */\n" if table else ""
    return f"""/* All static data. */
static struct {{
{first}    union {{
{members}    }} buffer; /* values between layers, and the sums of a layer */
}} memory;
"""


def _normalisation(program: Program, description: NetworkDescription) -> tuple[str, str]:
    """Return constants, and the expression that makes of a pixel what the network takes."""
    mean, std = (np.array(values, np.float32) for values in (description.mean, description.std))
    if program.image_grid is None:
        tables = f"{_constant_text('means', mean)}\n{_constant_text('deviations', std)}"
        return tables, "((float)*pixels++ / 255.0f - means[c]) / deviations[c]"
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    codes = grid_codes((pixels - mean[:, None]) / std[:, None], program.image_grid)
    comment = "/* The code of each value of a pixel, 0 to 255, of each channel. */\n"
    return comment + _constant_text("pixel_codes", codes), "pixel_codes[c * 256 + *pixels++]"


def _call_text(call: Call, plan: MemoryPlan, names: Mapping[Any, str]) -> str:
    arguments = [_argument(one, plan, names) for one in call.arguments]
    lines = [f"    /* {_comment(one.name)} */" for one in call.arguments if isinstance(one, PackedLayer)]
    line = f"    {call.function}("
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


def _table_text(one: Numbers | Structure, names: Mapping[Any, str]) -> str:
    if isinstance(one, Numbers):
        return f"static const int {names[one]}[] = {{{', '.join(map(str, one.values))}}};\n"
    fields = lines_of(f".{field} = {_field(value, names)}" for field, value in one.fields)
    return f"static const {one.type} {names[one]} = {{\n{fields}\n}};\n"


def _field(value: int | str | Constant | None, names: Mapping[Any, str]) -> str:
    if isinstance(value, int):
        return _integer_text(value)
    return names[id(value)] if isinstance(value, Constant) else value or "NULL"


def _place(values: Values, plan: MemoryPlan) -> str:
    type = values.buffer.type
    place = plan.offsets[values.buffer] // Buffer(1, type).bytes + values.offset
    return f"memory.buffer.{type} + {place}" if place else f"memory.buffer.{type}"
