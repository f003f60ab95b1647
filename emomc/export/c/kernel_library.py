"""The C functions that a program calls, one file each in ``kernels``."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Iterable, Mapping

from emomc.compression.codings import CODINGS

FLOATS = len(CODINGS)
"""Number that stands for float32 weights among the codings."""


@functools.cache
def kernels() -> Mapping[str, str]:
    """Return name -> C text of every function and type."""
    folder = importlib.resources.files("emomc.export.c") / "kernels"
    return {
        entry.name.removesuffix(".c"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".c")
    }


def needed_text(wanted: Iterable[str], codings: Iterable[int]) -> str:
    """Return the C text of functions and of all that they need, what is needed first.

    Args:
        wanted: names of kernels.
        codings: numbers of the codings of the weights, ``FLOATS`` among them where weights are float32.
    """
    known = {**kernels(), **_weight_readers(sorted(set(codings)))}
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        code = re.sub(r"/\*.*?\*/", "", known[name], flags=re.DOTALL)
        for word in re.findall(r"[A-Za-z_]\w*", code):
            if word in known and word != name:
                add(word)
        done[name] = known[name].rstrip() + "\n"

    for name in wanted:
        add(name)
    return "\n".join(done.values())


def _weight_readers(codings: list[int]) -> dict[str, str]:
    """Return the functions that walk through weights in these codings."""
    names = [*CODINGS, "float32"]
    huffman, bitmap = names.index("huffman"), names.index("bitmap")
    table = f"    if (layer->coding == {huffman} && layer->entries) read_table(&at.from, &at.table);\n"
    mask = f"    if (layer->coding == {bitmap}) at.from.bit = layer->weights;\n"
    begin = "".join(line for coding, line in ((huffman, table), (bitmap, mask)) if coding in codings)
    cases = "".join(
        f"            case {coding}: weight = (float)next_{names[coding]}(at); break; /* {names[coding]} */\n"
        for coding in codings
    )
    return {
        "begin_weights": f"""static weight_reader begin_weights(const packed_layer *layer) {{
    weight_reader at = {{0}};
    at.layer = layer;
    at.from.data = at.mask.data = layer->stream;
{begin}    return at;
}}
""",
        "next_weight": f"""/* Goes to the next weight that is not zero; returns 0 if there is none. */
static int next_weight(weight_reader *at) {{
    while (at->entry < at->layer->entries) {{
        float weight = 0;
        at->entry++;
        switch (at->layer->coding) {{
{cases}        }}
        at->next = at->position + 1;
        if (weight != 0) {{ /* else a zero, or a filler of csr, which only moves the position */
            const float *scales = at->layer->scales;
            at->weight = scales ? weight * scales[at->position / at->layer->per_scale] : weight;
            return 1;
        }}
    }}
    return 0;
}}
""",
    }
