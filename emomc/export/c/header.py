"""The header of a program: what it needs, and the functions that it has."""

from __future__ import annotations

import textwrap

from emomc.export.c.footprint import Footprint
from emomc.export.c.program import C_TYPES, Program
from emomc.export.c.text import WIDTH, float_text
from emomc.networks.interface import NetworkInterface, names_of
from emomc.packed_file.network import NetworkDescription

HEADER_END = "/* ---- the end of the header ---- */"
"""Line of the source up to which it is the same as the header."""


def header_text(program: Program, description: NetworkDescription, name: str, needs: Footprint) -> str:
    """Return the header of a program.

    Args:
        program: the network.
        description: of it.
        name: what the names of its functions begin with.
        needs: its memory.
    """
    channels, height, width = description.sides
    upper = name.upper()
    classify = ""
    if description.mean:
        classify = f"""
/* Normalises an image of {channels} x {height} x {width} pixels, 0 to 255, channel by channel and row by row; returns
   its class. */
int {name}_classify(const unsigned char *pixels);
"""
    integers = {
        "CHANNELS": channels,
        "HEIGHT": height,
        "WIDTH": width,
        "CLASSES": len(description.class_names) or program.scores.count,
        "RAM_BYTES": needs.ram_bytes,
        "FLASH_BYTES": needs.flash_bytes,
    }
    steps = {}
    grid = program.image_grid
    if grid is not None:
        integers |= {"INPUT_LOWEST": grid.lowest, "INPUT_HIGHEST": grid.highest}
        steps["INPUT_STEP"] = grid.step
    if program.score_step is not None:
        steps["SCORE_STEP"] = program.score_step
    defined = "".join(f"\n#define {upper}_{key} {float_text(step)}" for key, step in steps.items())
    listed = ",\n".join(f"    {upper}_{key} = {number}" for key, number in integers.items())
    standard = "#include <stdint.h>\n\n" if steps else ""
    paragraphs = [
        "A network that emomc-export wrote, in C99. It needs nothing but the headers of the standard library.",
        _arithmetic_text(program),
        f"RAM: {needs.ram_bytes:,} bytes of static data for all buffers; those that are not needed at the same time "
        f"share bytes. Weights are decoded one by one where they are used, so that no buffer holds those of a layer. "
        f"The stack takes about 1 KiB.",
        f"Flash: {needs.flash_bytes:,} bytes of weights and other constants; the code comes on top.",
        _usage_text(program, name),
        *_interface_text(description.interface),
    ]
    comment = "\n\n".join(textwrap.indent(textwrap.fill(text, WIDTH - 3), "   ") for text in paragraphs)
    return f"""/* {comment.strip()} */
#ifndef {upper}_H
#define {upper}_H

{standard}enum {{
{listed}
}};
{defined}

{C_TYPES[program.image.buffer.type]} *{name}_input(void);
const {C_TYPES[program.scores.buffer.type]} *{name}_run(void);
{classify}
#endif
{HEADER_END}
"""


def _interface_text(interface: NetworkInterface | None) -> list[str]:
    """Return where the inputs and outputs of a network with several lie, a paragraph each."""
    if interface is None:
        return []
    found = []
    for parts, whole in ((interface.inputs, "input"), (interface.outputs, "output")):
        if parts:
            named = zip(names_of(parts, whole), parts, strict=True)
            listed = ", ".join(f"{name} ({part.sides})" for name, part in named)
            found.append(f"{whole.capitalize()}s, one after another: {listed}.")
    return found


def float_functions(program: Program) -> list[str]:
    """Return the functions that compute in floats, each once, without those that only convert."""
    found = dict.fromkeys(call.function for call in program.calls if call.output.buffer.type == "f32")
    return [name for name in found if not name.startswith("dequantize_")]


def _arithmetic_text(program: Program) -> str:
    if program.arithmetic == "float":
        return "Arithmetic: float. Everything is computed in float32."
    floats = float_functions(program)
    rest = "There are no floats between the image and the scores."
    if floats:
        rest = f"In float32: {', '.join(floats)}."
    return (
        f"Arithmetic: int8. Convolutions and linear layers add products of 8-bit codes in 32 bits, where no image can "
        f"make them overflow. Sums are rescaled by a multiplier of 32 bits and a shift, and rounded to the nearest, "
        f"half-way to the even one. {rest}"
    )


def _usage_text(program: Program, name: str) -> str:
    upper, grid = name.upper(), program.image_grid
    given = "the normalised image goes, (pixel / 255 - mean) / deviation, channel by channel and row by row"
    if grid is not None:
        given = (
            f"the codes of the normalised image go, channel by channel and row by row: (pixel / 255 - mean) / "
            f"deviation / {upper}_INPUT_STEP, rounded to the nearest, half-way to the even one, and clipped to "
            f"{grid.lowest}..{grid.highest}"
        )
    unit = f" in units of {upper}_SCORE_STEP" if program.score_step is not None else ""
    return (
        f"{name}_input() is where {given}. {name}_run() then returns the class scores{unit}, and writes over the "
        f"image. Both use one static array: they are not for two threads at once."
    )
