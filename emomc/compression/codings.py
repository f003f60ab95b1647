"""The codings: how the integer codes of a layer are stored, and in how many bits.

| coding | bits of N codes of b bits, nnz of them nonzero |
|---|---|
| normal | N b |
| csr | (nnz + fillers) (b + r): the number of preceding zeros (0 .. 2^r - 1) in r bits, then the code |
| coo | nnz (ceil(log2 N) + b): the position, then the code |
| bitmap | N + nnz b: one bit per code, then the nonzero codes |
| huffman | a table; per nonzero code its gap in a Rice code, its magnitude in a Huffman code, its sign |
| nm | N of each M inputs: the index in the group in log2 M bits, then the code |
| block | one bit per block of outputs x inputs, then all codes of blocks that are not all zero |

In csr, g zeros in a row need floor(g / 2^r) fillers. A filler is 2^r - 1 preceding zeros and the code 0, so it stands
for 2^r zeros. Zeros after the last nonzero code need nothing. r is chosen for each layer so that its stream is
shortest. Codes are in two's complement. ``huffman.py`` describes huffman, ``pattern_counts.py`` the groups and blocks
of nm and block. ``docs/format.md`` specifies all for readers in C.

To add a coding, write its stream as in ``streams.py`` and add an entry to ``CODINGS``; the command line, the cost
model, the packed file and the report use it from there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.code_counts import CodeCounts, count_codes, csr_index_bits, position_bits
from emomc.compression.huffman import read_huffman, write_huffman
from emomc.compression.huffman_plan import GAP_BITS, plan_huffman
from emomc.compression.pattern_counts import BLOCK_BITS, GROUP_BITS, Shape, block_bits, n_m_bits, shape_of
from emomc.compression.pattern_streams import block_count, read_blocks, read_n_m, write_blocks, write_n_m
from emomc.compression.streams import (
    Codes,
    Stream,
    check_codes,
    read_bitmap,
    read_coo,
    read_csr,
    read_normal,
    write_bitmap,
    write_coo,
    write_csr,
    write_normal,
)
from emomc.compression.widths import UNCOMPRESSED_BITS

Array = NDArray[np.float64]

MIN_CODE_BITS, MAX_CODE_BITS = 2, 16
MAX_INDEX_BITS = 31
MAX_WEIGHTS = 1 << 28
"""Weights of one layer, at most."""


@dataclasses.dataclass(frozen=True)
class Coding:
    """One way to store the codes of a layer."""

    name: str
    """Name on the command line."""
    label: str
    """Name in the report."""
    stream_bits: Callable[[CodeCounts, int], int]
    """Counts of the codes and bits of a code -> bits of the stream."""
    write: Callable[[Codes, int], Stream]
    """Codes of shape (count,), or of ``Shape`` if ``shaped``, and bits of a code -> the stream."""
    read: Callable[[Stream, Any, int], Codes]
    """A stream of the right length, count of weights (their ``Shape`` if ``shaped``) and bits of a code -> the codes,
    shape (count,)."""
    effort: int
    """Rank of the effort of decoding; of codings of equal length, ``best`` takes the least effort."""
    entry_bits: Callable[[Shape, int, int, int], int] | None = lambda shape, entries, bits, index_bits: (
        entries * (bits + index_bits)
    )
    """Shape of the weights, entries of the stream, bits of a code and of an index -> bits of the stream.

    None where they do not decide its length; then ``read`` checks where it ends.
    """
    index_widths: Callable[[int], Container[int]] = lambda count: range(1)
    """Count of weights -> the allowed index widths, bits."""
    paper_bits: Callable[[Array, Array, Array], Array] | None = None
    """Weights, bits per weight and density of each layer -> bits of the layer by the paper's formula, if any."""
    shaped: bool = False
    """Whether the stream depends on which input and output a weight belongs to."""


def normal_bits(weights: Array, bits: Array, density: Array) -> Array:
    """Return the bits of all weights, zeros included, without scales and biases: N q. Source: the paper."""
    return np.broadcast_to(weights * bits, np.shape(density))


def csr_bits(weights: Array, bits: Array, density: Array) -> Array:
    """Return the bits of the remaining weights, each with 3 bits for the zeros before it: N p (q + 3).

    Source: the paper. Ignores scales, biases, and the fillers that more than 7 zeros in a row need; without
    fillers it is too small by up to 3x at low densities.
    """
    return weights * density * (bits + 3)


def coo_bits(weights: Array, bits: Array, density: Array) -> Array:
    """Return the bits of the remaining weights, each with its position: N p round(q + log2 N).

    Source: the paper. Ignores scales, biases, and that a position needs a whole number of bits, rounded up.
    """
    return weights * density * np.rint(bits + np.log2(weights))


def _csr_stream_bits(counts: CodeCounts, bits: int) -> int:
    width = csr_index_bits(counts, bits)
    return (counts.nonzeros + int(counts.overflows[width])) * (bits + width)


CODINGS: Mapping[str, Coding] = {
    coding.name: coding
    for coding in (
        Coding(
            "normal",
            "normal",
            lambda counts, bits: counts.weights * bits,
            write_normal,
            read_normal,
            effort=1,
            paper_bits=normal_bits,
        ),
        Coding(
            "csr",
            "CSR",
            _csr_stream_bits,
            write_csr,
            read_csr,
            effort=3,
            index_widths=lambda count: range(MAX_INDEX_BITS + 1),
            paper_bits=csr_bits,
        ),
        Coding(
            "coo",
            "COO",
            lambda counts, bits: counts.nonzeros * (bits + position_bits(counts.weights)),
            write_coo,
            read_coo,
            effort=4,
            index_widths=lambda count: range(position_bits(count), position_bits(count) + 1),
            paper_bits=coo_bits,
        ),
        Coding(
            "bitmap",
            "bitmap",
            lambda counts, bits: counts.weights + counts.nonzeros * bits,
            write_bitmap,
            read_bitmap,
            effort=2,
            entry_bits=lambda shape, entries, bits, index_bits: math.prod(shape) + entries * bits,
        ),
        Coding(
            "huffman",
            "Huffman",
            lambda counts, bits: plan_huffman(counts, bits).bits,
            write_huffman,
            read_huffman,
            effort=5,
            entry_bits=None,
            index_widths=lambda count: GAP_BITS,
        ),
        Coding(
            "nm",
            "N:M",
            lambda counts, bits: n_m_bits(counts.patterns, bits),
            write_n_m,
            read_n_m,
            effort=6,
            index_widths=lambda count: GROUP_BITS,
            shaped=True,
        ),
        Coding(
            "block",
            "block",
            lambda counts, bits: block_bits(counts.patterns, bits),
            write_blocks,
            read_blocks,
            effort=7,
            entry_bits=lambda shape, entries, bits, sides: block_count(shape, sides) + entries * bits,
            index_widths=lambda count: BLOCK_BITS,
            shaped=True,
        ),
    )
}
"""Name -> coding. The packed file stores a coding by its position here, so new ones must be added at the end."""

BEST = "best"
"""Takes the shortest coding for each layer; ties: the least effort."""
CODING_CHOICES = (*CODINGS, BEST)
"""Names that a user can choose."""
PAPER_CODINGS = tuple(name for name, coding in CODINGS.items() if coding.paper_bits)
"""Names of the codings for which the paper gives a size formula."""

if TYPE_CHECKING:
    CodingName = str
else:
    CodingName = Literal[CODING_CHOICES]


def stream_bits(codes: NDArray[np.integer] | CodeCounts, bits: int, coding: str) -> int:
    """Return the length of a layer's stream in bits without encoding it.

    Args:
        codes: integer codes of one layer (float32 weights at 32 bits), or the result of ``count_codes`` for them.
        bits: bits of one code, 2..16, or 32 for a layer left in float32.
        coding: one of ``CODING_CHOICES``.

    Returns:
        Bits of the stream that ``encode`` writes, without its padding to whole bytes.

    Raises:
        UserError: ``bits`` or ``coding`` is none of the above.
    """
    _check_coding(coding)
    if bits == UNCOMPRESSED_BITS:
        return UNCOMPRESSED_BITS * (codes.weights if isinstance(codes, CodeCounts) else codes.size)
    bits = _checked_bits(bits)
    counts = codes if isinstance(codes, CodeCounts) else count_codes(codes)
    chosen = CODINGS.values() if coding == BEST else [CODINGS[coding]]
    return min(one.stream_bits(counts, bits) for one in chosen)


def stream_bytes(bits: NDArray[np.integer] | int) -> NDArray[np.int64]:
    """Return the bytes of streams of ``bits`` bits, rounded up; any shape."""
    return (np.asarray(bits, np.int64) + 7) // 8


def best_coding(counts: CodeCounts, bits: int) -> str:
    """Return the name of the coding with the shortest stream in bits; ties: the least effort."""
    return min(CODINGS.values(), key=lambda coding: (coding.stream_bits(counts, bits), coding.effort)).name


def encode(codes: NDArray[np.integer], bits: int, coding: str) -> Stream:
    """Write a layer's codes as a bit stream.

    Args:
        codes: integer codes in -(2^(bits-1) - 1) .. 2^(bits-1) - 1, output channels first; of one dimension: inputs of
            one output.
        bits: bits of one code, 2..16.
        coding: one of ``CODING_CHOICES``.

    Raises:
        UserError: bits, coding or a code are out of range, or there is no weight or more than ``MAX_WEIGHTS``.
    """
    _check_coding(coding)
    bits = _checked_bits(bits)
    flat = np.ascontiguousarray(codes).ravel()
    if not 1 <= len(flat) <= MAX_WEIGHTS:
        raise UserError(f"expected a layer of 1 to {MAX_WEIGHTS} weights, found {len(flat)}")
    check_codes(flat, bits)
    name = best_coding(count_codes(codes), bits) if coding == BEST else coding
    return CODINGS[name].write(flat.reshape(shape_of(codes.shape)) if CODINGS[name].shaped else flat, bits)


def decode(stream: Stream, sizes: int | Sequence[int], bits: int) -> Codes:
    """Read a layer's codes from an untrusted stream.

    Memory is bounded by ``count`` and the length of the stream, both checked before any allocation.

    Args:
        stream: a stream of ``encode``, possibly damaged.
        sizes: of the layer's weights, 1..``MAX_WEIGHTS`` of them, output channels first; a number: so many inputs of
            one output.
        bits: bits of one code, 2..16.

    Returns:
        The codes, shape (count,), int8 up to 8 bits, int16 above.

    Raises:
        UserError: the stream is not one that ``encode`` writes, apart from choices that make it longer than it need be
            (the index width of csr; gap bits, split and code lengths of huffman).
    """
    bits, shape = _checked_bits(bits), shape_of(sizes)
    count = math.prod(shape)
    if not 1 <= count <= MAX_WEIGHTS:
        raise UserError(f"expected a layer of 1 to {MAX_WEIGHTS} weights, found {count}")
    _check_stream(stream, shape, bits)
    coding = CODINGS[stream.coding]
    codes = coding.read(stream, shape if coding.shaped else count, bits)
    check_codes(codes, bits)
    return codes


def _check_stream(stream: Stream, shape: Shape, bits: int) -> None:
    count = math.prod(shape)
    if stream.coding not in CODINGS:
        raise UserError(f"expected a coding of {', '.join(CODINGS)}, found {stream.coding!r}")
    coding = CODINGS[stream.coding]
    if stream.index_bits not in coding.index_widths(count):
        raise UserError(f"expected valid index bits of a {stream.coding} stream, found {stream.index_bits}")
    if stream.entries > count or (stream.coding == "normal" and stream.entries != count):
        raise UserError(f"expected the entries of {count} weights, found {stream.entries}")
    if coding.entry_bits is None:
        return
    length = coding.entry_bits(shape, stream.entries, bits, stream.index_bits)
    if len(stream.data) != (length + 7) // 8:
        raise UserError(f"expected a stream of {(length + 7) // 8} bytes, found {len(stream.data)}")
    if length % 8 and stream.data[-1] >> (length % 8):
        raise UserError("expected zeros after the last bit of a stream, found ones")


def _check_coding(coding: str) -> None:
    if coding not in CODING_CHOICES:
        raise UserError(f"expected a coding of {', '.join(CODING_CHOICES)}, found {coding!r}")


def _checked_bits(bits: int) -> int:
    if not MIN_CODE_BITS <= bits <= MAX_CODE_BITS:
        raise UserError(f"expected {MIN_CODE_BITS} to {MAX_CODE_BITS} bits for a weight, found {bits}")
    # A numpy integer would widen the type of the arrays that it is combined with.
    return int(bits)
