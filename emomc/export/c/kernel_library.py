"""The C functions that a program calls, one file each in ``kernels``."""

from __future__ import annotations

import functools
import importlib.resources
import re
import textwrap
from collections.abc import Iterable, Mapping

from emomc.compression.codings import CODINGS
from emomc.export.c.program import C_TYPES

FLOATS = len(CODINGS)
"""Number that stands for float32 weights among the codings."""
HUFFMAN_NAME = "huffman"
HUFFMAN = list(CODINGS).index(HUFFMAN_NAME)
PATTERN_CODINGS = ("nm", "block")
"""Codings whose decoder must know the inputs of a layer."""
DECODER_TABLE_BYTES = 176
"""Of the table in ``memory``, which is there if a layer may be in the coding huffman."""

_ALSO_FOR_INTEGERS = ("clip", "copy", "fill", "pool_adaptive_max", "pool_max")
"""Functions of floats that have variants for integers, which differ in the type alone."""
_ENDING = "_codes"
"""Of the name of a function whose text has the type ``CODE``: there is a variant for each type of integers."""


@functools.cache
def kernels() -> Mapping[str, str]:
    """Return name -> C text of every function and type; variants end with the type of their numbers."""
    folder = importlib.resources.files("emomc.export.c") / "kernels"
    found = {
        entry.name.removesuffix(".c"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".c")
    }
    for name in [*_ALSO_FOR_INTEGERS, *(name for name in found if name.endswith(_ENDING))]:
        text = found[name] if name in _ALSO_FOR_INTEGERS else found.pop(name)
        placeholder = "float" if name in _ALSO_FOR_INTEGERS else "CODE"
        for type in ("u8", "s8", "s32"):
            own = f"{name.removesuffix(_ENDING)}_{type}"
            found[own] = _renamed(re.sub(rf"\b{placeholder}\b", C_TYPES[type], text), name, own)
    return found


def _renamed(text: str, name: str, own: str) -> str:
    """Rename the function of a text, and keep its parameters below one another."""
    head, body = text.split("{\n", 1)
    column = next(line.index("(") for line in head.splitlines() if f"{name}(" in line) + 1
    # The type before the name has the same length in all variants.
    head = head.replace("\n" + " " * column, "\n" + " " * (column + len(own) - len(name)))
    return f"{head}{{\n{body}".replace(f"{name}(", f"{own}(")


def needed_text(wanted: Iterable[str], codings: Iterable[int], memory: str, *, shaped: bool = False) -> str:
    """Return the C text of functions and of all that they need, what is needed first.

    Args:
        wanted: names of kernels.
        codings: numbers of the codings of the weights, ``FLOATS`` among them where weights are float32.
        memory: C text of the variable ``memory``.
        shaped: whether layers hold their numbers of inputs and of positions of the kernel.
    """
    known = {**kernels(), **_weight_readers(sorted(set(codings))), "memory": memory}
    if shaped:
        fields = (
            "    uint32_t inputs, taps; /* of an output channel: its inputs, and weights of each */\n} packed_layer;"
        )
        known["packed_layer"] = known["packed_layer"].replace("} packed_layer;", fields)
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        code = re.sub(r"/\*.*?\*/", "", known[name], flags=re.DOTALL)
        for word in re.findall(r"[A-Za-z_]\w*", code):
            if word in known and word != name:
                add(word)
        done[name] = known[name].rstrip() + "\n"

    for name in ("memory", *wanted):
        add(name)
    return "\n".join(done.values())


def _weight_readers(codings: list[int]) -> dict[str, str]:
    """Return the functions that walk through weights in these codings."""
    names = [*CODINGS, "float32"]
    bitmap = names.index("bitmap")
    table = f"    if (layer->coding == {HUFFMAN} && layer->entries) read_table(&at.from, &memory.table);\n"
    mask = f"    if (layer->coding == {bitmap}) at.from.bit = layer->weights;\n"
    block = names.index("block")
    blocks = f"    if (layer->coding == {block}) at.from.bit = block_of(layer, layer->weights);\n"
    begin = "".join(line for coding, line in ((HUFFMAN, table), (bitmap, mask), (block, blocks)) if coding in codings)
    integers = [coding for coding in codings if coding != FLOATS]
    cases = "".join(
        f"            case {coding}: at->code = next_{names[coding]}(at); break; /* {names[coding]} */\n"
        for coding in integers
    )
    next_code = f"""/* Goes to the next code that is not zero; returns 0 if there is none. */
static int next_code(weight_reader *at) {{
    while (at->entry < at->layer->entries) {{
        at->entry++;
        switch (at->layer->coding) {{
{cases}        }}
        at->next = at->position + 1;
        if (at->code) return 1; /* else a zero, or a filler of csr, which only moves the position */
    }}
    return 0;
}}
"""
    floats = f"""        while (at->entry < at->layer->entries) {{
            at->entry++;
            at->weight = next_{names[FLOATS]}(at);
            at->next = at->position + 1;
            if (at->weight != 0) return 1;
        }}
        return 0;
"""
    codes = """if (!next_code(at)) return 0;
    at->weight = (float)at->code * at->layer->scales[at->position / at->layer->per_scale];
    return 1;
"""
    if integers and FLOATS in codings:
        both = f"    if (at->layer->coding == {FLOATS}) {{\n{floats}    }}\n    {codes}"
    else:
        both = f"    {codes}" if integers else textwrap.indent(textwrap.dedent(floats), "    ")
    return {
        "begin_weights": f"""static weight_reader begin_weights(const packed_layer *layer) {{
    weight_reader at = {{0}};
    at.layer = layer;
    at.from.data = at.mask.data = layer->stream;
{begin}    return at;
}}
""",
        "next_code": next_code,
        "next_weight": f"""/* Goes to the next weight that is not zero; returns 0 if there is none. */
static int next_weight(weight_reader *at) {{
{both}}}
""",
    }
