"""Streams for weights whose zeros follow a pattern; ``pattern_counts.py`` says which patterns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emomc.common.errors import UserError
from emomc.compression.bit_packing import join, pack, unpack
from emomc.compression.pattern_counts import Bits, Shape, any_of, count_patterns, group_entries, most_in_group
from emomc.compression.streams import Codes, Stream, from_complement, join_pairs, split_pairs, to_complement


def write_n_m(codes: Codes, bits: int) -> Stream:
    """Write N weights of each group of M inputs, each its index in the group and its code; zeros fill a group up."""
    counts = count_patterns(codes != 0).groups
    index_bits = min(counts, key=lambda own: counts[own] * (bits + own))
    outputs, inputs, taps = codes.shape
    size = 1 << index_bits
    few = most_in_group(codes != 0, size)
    grouped = np.zeros((outputs, inputs + -inputs % size, taps), codes.dtype)
    grouped[:, :inputs] = codes
    grouped = grouped.reshape(outputs, -1, size, taps).swapaxes(2, 3)
    # Those that are not zero first, then the first zeros; what lies beyond the inputs last, and is not written.
    real = np.arange(grouped.shape[1] * size).reshape(-1, 1, size) < inputs
    ranks = np.argsort(np.where(grouped != 0, 0, np.where(real, 1, 2)), axis=-1, kind="stable")[..., :few]
    indices = np.sort(np.where(np.take_along_axis(np.broadcast_to(real, grouped.shape), ranks, -1), ranks, size), -1)
    written = indices < size
    values = np.take_along_axis(grouped, np.minimum(indices, size - 1), -1)[written]
    pairs = join_pairs(indices[written], to_complement(values, bits), index_bits)
    return Stream(pack(pairs, index_bits + bits), "nm", len(values), index_bits)


def read_n_m(stream: Stream, shape: Shape, bits: int) -> Codes:
    """Return the codes of ``write_n_m``, shape (count,)."""
    outputs, inputs, taps = shape
    size, index_bits = 1 << stream.index_bits, stream.index_bits
    few = next((few for few in range(size + 1) if group_entries(shape, few, index_bits) == stream.entries), None)
    if few is None:
        raise UserError(
            f"expected as many entries of each {size} inputs in an nm stream, found {stream.entries} in all"
        )
    indices, values = split_pairs(stream, bits)
    groups = -(-inputs // size)
    starts = np.arange(groups) * size
    room = np.minimum(few, inputs - starts)
    # The groups of one output lie one after another, each with its positions of the kernel.
    counts = np.broadcast_to(np.repeat(room, taps), (outputs, groups * taps)).ravel()
    group = np.repeat(np.arange(len(counts)), counts)
    output, (block, tap) = group // (groups * taps), np.divmod(group % (groups * taps), taps)
    column = block * size + indices
    if (column >= inputs).any():
        raise UserError(f"expected indices of {inputs} inputs in an nm stream, found one beyond")
    same = group[1:] == group[:-1]
    if (np.diff(indices)[same] <= 0).any():
        raise UserError("expected the indices of a group in ascending order, found them out of order")
    codes = np.zeros(outputs * inputs * taps, values.dtype)
    codes[(output * inputs + column) * taps + tap] = values
    return codes


def write_blocks(codes: Codes, bits: int) -> Stream:
    """Write one bit per block, then the codes of all weights in blocks that are not all zero, in order of position."""
    counts = count_patterns(codes != 0).blocks
    sides = min(counts, key=lambda own: counts[own][0] + counts[own][1] * bits)
    blocks = _blocks_of(codes != 0, sides)
    values = to_complement(codes[_spread(blocks, sides, codes.shape)], bits)
    mask = np.packbits(blocks.ravel(), bitorder="little").tobytes()
    return Stream(join(mask, blocks.size, pack(values, bits), len(values) * bits), "block", len(values), sides)


def read_blocks(stream: Stream, shape: Shape, bits: int) -> Codes:
    """Return the codes of ``write_blocks``, shape (count,)."""
    sides = stream.index_bits
    blocks = block_count(shape, sides)
    mask = np.unpackbits(np.frombuffer(stream.data, np.uint8), count=blocks, bitorder="little").view(bool)
    outputs, inputs = _counts_of(shape, sides)
    stored = _spread(mask.reshape(outputs, inputs, shape[2]), sides, shape)
    if int(stored.sum()) != stream.entries:
        raise UserError(f"expected {stream.entries} weights in blocks, found {int(stored.sum())}")
    values = from_complement(unpack(stream.data, stream.entries, bits, blocks), bits)
    codes = np.zeros(shape, values.dtype)
    codes[stored] = values
    if (_blocks_of(codes != 0, sides).ravel() != mask).any():
        raise UserError("expected a weight that is not zero in each block, found a block of zeros")
    return codes.ravel()


def block_count(shape: Shape, sides: int) -> int:
    """Return how many blocks a layer has."""
    outputs, inputs = _counts_of(shape, sides)
    return outputs * inputs * shape[2]


def _counts_of(shape: Sequence[int], sides: int) -> tuple[int, int]:
    rows, columns = 1 << sides // 8, 1 << sides % 8
    return -(-shape[0] // rows), -(-shape[1] // columns)


def _blocks_of(nonzero: Bits, sides: int) -> Bits:
    return any_of(any_of(nonzero, 1 << sides // 8, 0), 1 << sides % 8, 1)


def _spread(blocks: Bits, sides: int, shape: Sequence[int]) -> Bits:
    """Return which weights lie in the blocks that are set, (outputs, inputs, positions)."""
    wide = blocks.repeat(1 << sides // 8, 0).repeat(1 << sides % 8, 1)
    return wide[: shape[0], : shape[1]]
