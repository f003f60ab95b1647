"""The memory that a program needs on a device, known before it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from emomc.compression.codings import BEST, stream_bits
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.c.kernel_library import DECODER_TABLE_BYTES, HUFFMAN_NAME, PATTERN_CODINGS
from emomc.export.c.memory import plan_memory
from emomc.export.c.number_types import LAYERS
from emomc.export.c.program import Numbers, Program, Structure
from emomc.packed_file.network import PackedLayer

RECORD_BYTES, SHAPE_BYTES = 32, 8
"""Of a ``packed_layer`` where pointers have 8 bytes, and of the shape that it may have besides."""
_PIXEL_VALUES = 256


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What a program needs on a device."""

    ram_bytes: int
    """Of its static data: all buffers at their largest, with the sums of a layer, and the table of the decoder of
    weights. The stack comes on top."""
    flash_bytes: int
    """Of weights and other constants, where pointers have 8 bytes; the code comes on top."""


def footprint(
    program: Program, coding: str, *, channels: int, coded_bits: Mapping[str, int] | None = None
) -> Footprint:
    """Return what a program needs.

    Args:
        program: the network.
        coding: one of ``CODING_CHOICES``: how the weights are stored.
        channels: of an image whose normalisation is known; 0: it is not known.
        coded_bits: layer name -> bits of its weights in that coding, where they are known; others are counted.
    """
    known = coded_bits or {}
    flash = sum(one.numbers.nbytes for one in program.constants) + sum(table_bytes(one) for one in program.tables)
    for layer in program.layers:
        bits = known[layer.name] if layer.name in known else stream_bits(layer.codes, layer.bits, coding)
        # An array in C has at least one number.
        flash += max(1, -(-bits // 8)) + RECORD_BYTES + SHAPE_BYTES * has_shapes(coding)
        flash += 4 * len(layer.scale) if takes_scales(program, layer) else 0
    flash += channels * (8 if program.image_grid is None else _PIXEL_VALUES)
    return Footprint(ram_bytes(program, coding), flash)


def ram_bytes(program: Program, coding: str) -> int:
    """Return the bytes of static data that a program needs besides its constants."""
    return plan_memory(program).bytes + (DECODER_TABLE_BYTES if has_decoder_table(program, coding) else 0)


def has_decoder_table(program: Program, coding: str) -> bool:
    """Say whether a program has the table of the coding huffman: if one of its layers may be in that coding."""
    return coding in (BEST, HUFFMAN_NAME) and any(layer.bits != UNCOMPRESSED_BITS for layer in program.layers)


def has_shapes(coding: str) -> bool:
    """Say whether layers hold their shapes: if one of them may be in a coding that needs them."""
    return coding in (BEST, *PATTERN_CODINGS)


def takes_scales(program: Program, layer: PackedLayer) -> bool:
    """Say whether a layer computes in floats, with the scales of its weights."""
    return any(call.function in LAYERS and layer in call.arguments for call in program.calls)


def table_bytes(table: Numbers | Structure) -> int:
    """Return the bytes of an array or a structure where pointers have 8 bytes."""
    return table.bytes if isinstance(table, Structure) else 4 * len(table.values)
