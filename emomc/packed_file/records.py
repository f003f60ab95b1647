"""The records of a packed file: what it says of each layer and of each other tensor, before their numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.packed_file.layout import (
    CHANNEL_SCALES,
    CODING_NAMES,
    CODINGS_1,
    CODINGS_4,
    HALF_SCALES,
    LAYER,
    LAYER_1,
    LAYER_DIMENSIONS,
    MAX_TENSOR_DIMENSIONS,
    NO_SCALE,
    ONE_SCALE,
    PATTERN_VERSION,
    SIDE_BYTES,
    SIGNED_INPUTS,
    STEP,
    TENSOR,
    TENSOR_1,
)

Take = Callable[[int], bytes]
"""Returns the next so many bytes of a file, or raises a UserError if it has fewer."""


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """What a file says of one layer."""

    name_bytes: int
    shape: tuple[int, ...]
    bits: int
    coding: int
    index_bits: int
    scales: int
    """Number of scales."""
    entries: int
    stream_bytes: int
    inputs: ActivationGrid | None = None
    """The grid of its inputs; None: they are not rounded."""
    half_scales: bool = False
    """Whether its scales are float16 numbers times one power of two."""
    name_offset: int | None = None
    """Where its name begins among the names; in version 1."""
    offset: int | None = None
    """Where its numbers begin in the file; in version 1."""


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """What a file says of one tensor."""

    name_bytes: int
    shape: tuple[int, ...]
    type: int
    name_offset: int | None = None
    """As of a layer."""
    offset: int | None = None
    """As of a layer."""


def layer_record_bytes(dimensions: int) -> int:
    """Return the bytes of the record of a layer whose weights have so many dimensions; a step comes on top."""
    return LAYER.size + SIDE_BYTES * dimensions


def tensor_record_bytes(dimensions: int) -> int:
    """Return the bytes of the record of a tensor of so many dimensions."""
    return TENSOR.size + SIDE_BYTES * dimensions


def pack_layer_record(record: LayerRecord) -> bytes:
    """Return the bytes of a record."""
    kind = NO_SCALE if not record.scales else ONE_SCALE if record.scales == 1 else CHANNEL_SCALES
    if record.half_scales:
        kind = HALF_SCALES
    first = record.name_bytes, len(record.shape), record.bits, record.coding, record.index_bits, kind
    grid = record.inputs
    inputs = 0 if grid is None else grid.bits + SIGNED_INPUTS * grid.signed
    step = b"" if grid is None else STEP.pack(grid.step)
    return LAYER.pack(*first, inputs, record.entries, record.stream_bytes) + _pack_shape(record.shape) + step


def pack_tensor_record(record: TensorRecord) -> bytes:
    """Return the bytes of a record."""
    return TENSOR.pack(record.name_bytes, record.type, len(record.shape)) + _pack_shape(record.shape)


def read_layer_record(take: Take, version: int) -> LayerRecord:
    """Read a record.

    Raises:
        UserError: it is none of a layer.
    """
    if version == 1:
        name_offset, name_bytes, dimensions, bits, coding, index_bits, reserved, *rest = LAYER_1.unpack(
            take(LAYER_1.size)
        )
        _check_dimensions(dimensions, reserved)
        if coding >= CODINGS_1:
            raise UserError(f"expected a coding of version 1, found {coding}")
        *sides, scales, entries, stream_bytes, offset = rest
        shape = _used_sides(sides, dimensions)
        return LayerRecord(
            *(name_bytes, shape, bits, coding, index_bits, scales, entries, stream_bytes),
            name_offset=name_offset,
            offset=offset,
        )
    name_bytes, dimensions, bits, coding, index_bits, kind, inputs, entries, stream_bytes = LAYER.unpack(
        take(LAYER.size)
    )
    _check_dimensions(dimensions, inputs if version == 2 else 0)
    if version < PATTERN_VERSION and CODINGS_4 <= coding < len(CODING_NAMES):
        raise UserError(f"expected a coding of version {version}, found {coding}")
    shape = _read_shape(take, dimensions)
    most = CHANNEL_SCALES if version < 4 else HALF_SCALES
    if kind > most or (kind >= CHANNEL_SCALES and shape[0] == 1):
        raise UserError(f"expected no scale, one or one per output channel of a layer, found kind {kind}")
    scales = shape[0] if kind >= CHANNEL_SCALES else kind
    grid = _read_grid(take, inputs) if inputs else None
    half = kind == HALF_SCALES
    return LayerRecord(name_bytes, shape, bits, coding, index_bits, scales, entries, stream_bytes, grid, half)


def read_tensor_record(take: Take, version: int) -> TensorRecord:
    """Read a record.

    Raises:
        UserError: it is none of a tensor.
    """
    if version == 1:
        name_offset, name_bytes, kind, dimensions, *sides, offset = TENSOR_1.unpack(take(TENSOR_1.size))
    else:
        name_bytes, kind, dimensions = TENSOR.unpack(take(TENSOR.size))
    if dimensions > MAX_TENSOR_DIMENSIONS:
        raise UserError(f"expected a tensor of at most {MAX_TENSOR_DIMENSIONS} dimensions, found {dimensions}")
    if version == 1:
        return TensorRecord(name_bytes, _used_sides(sides, dimensions), kind, name_offset, offset)
    return TensorRecord(name_bytes, _read_shape(take, dimensions), kind)


def _check_dimensions(dimensions: int, reserved: int) -> None:
    if dimensions not in LAYER_DIMENSIONS or reserved:
        raise UserError(f"expected a known kind of layer, found {dimensions} dimensions and {reserved} where 0 must be")


def _read_grid(take: Take, inputs: int) -> ActivationGrid:
    (step,) = STEP.unpack(take(STEP.size))
    return ActivationGrid(inputs % SIGNED_INPUTS, inputs >= SIGNED_INPUTS, step)


def _pack_shape(shape: tuple[int, ...]) -> bytes:
    return b"".join(side.to_bytes(SIDE_BYTES, "little") for side in shape)


def _read_shape(take: Take, dimensions: int) -> tuple[int, ...]:
    sides = take(SIDE_BYTES * dimensions)
    return tuple(int.from_bytes(sides[at : at + SIDE_BYTES], "little") for at in range(0, len(sides), SIDE_BYTES))


def _used_sides(sides: list[int], dimensions: int) -> tuple[int, ...]:
    if any(sides[dimensions:]):
        raise UserError(f"expected {dimensions} sizes in a shape, found {sides}")
    return tuple(sides[:dimensions])
