"""Bit-exact streams of integer weights, and their lengths without encoding.

Bits fill bytes from the least significant end (bit i of a stream is bit ``i % 8`` of byte ``i // 8``), numbers start
with their least significant bit, codes are in two's complement. ``docs/format.md`` says the same for readers in C.

| coding | bits of N weights, nnz of them nonzero, at b bits |
|---|---|
| normal | N b |
| csr | (nnz + fillers) (b + r): r bits of preceding zeros (0 .. 2^r - 1), then the code |
| coo | nnz (ceil(log2 N) + b): the position, then the code |
| bitmap | N + nnz b: one bit per weight, then the codes of the nonzero ones |

A csr gap of g zeros needs floor(g / 2^r) fillers (2^r - 1 preceding zeros and the code 0, which together stand for 2^r
zeros); zeros after the last nonzero weight need nothing. r is the smallest in bits for each layer.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError

CODINGS = ("normal", "csr", "coo", "bitmap")
"""What a stream can be written in; the position is the number that stands in a packed file."""
CODING_CHOICES = (*CODINGS, "best")
"""What can be asked for: ``best`` takes the shortest per layer, the simplest among equals."""

MIN_BITS, MAX_BITS = 2, 16
FLOAT_BITS = 32
"""Bits of a layer left uncompressed: plain float32 in the order of the weights, whatever coding is asked for."""
MAX_INDEX_BITS = 31
MAX_WEIGHTS = 1 << 28
"""Weights of one layer, at most."""

# Equal lengths are settled in favour of what a device reads most easily.
_SIMPLEST_FIRST = ("normal", "bitmap", "csr", "coo")
# Packing spends up to 64 bytes a number on the way: pieces keep that at a few MiB. A multiple of 8 ends on whole bytes.
_PIECE = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class ZeroRuns:
    """All that the lengths of a layer's streams depend on, besides the bits.

    Count once per (level, layer, bits) and keep.
    """

    weights: int
    """Number of weights."""
    nonzeros: int
    """Number of codes that are not 0."""
    fillers: NDArray[np.int64]
    """csr fillers needed with an index of 0, 1, ... bits, down to the first 0: shape (1..32,)."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """One encoded layer."""

    data: bytes
    """The bits, filled up with zeros to a whole byte."""
    coding: str
    """One of ``CODINGS``."""
    entries: int
    """Codes in the stream: all weights (normal), nonzeros and fillers (csr), nonzeros (coo, bitmap)."""
    index_bits: int = 0
    """Bits of a csr index or a coo position; 0 otherwise."""


def count_zero_runs(codes: NDArray[np.integer]) -> ZeroRuns:
    """Count nonzero codes and the fillers that each csr index width would need, in one pass.

    Args:
        codes: integer codes of one layer, any shape.
    """
    flat = codes.reshape(-1)
    positions = np.flatnonzero(flat != 0)
    gaps = np.diff(positions, prepend=-1) - 1
    occurrences = np.bincount(gaps) if len(gaps) else np.zeros(1, np.int64)
    lengths = np.flatnonzero(occurrences)
    occurrences = occurrences[lengths]
    widths = int(lengths[-1]).bit_length() + 1 if len(lengths) else 1
    fillers = [int(((lengths >> width) * occurrences).sum()) for width in range(widths)]
    return ZeroRuns(len(flat), len(positions), np.array(fillers, np.int64))


def csr_index_bits(runs: ZeroRuns, bits: int) -> int:
    """Return the index width that makes the csr stream shortest; the narrowest among equals."""
    widths = np.arange(len(runs.fillers))
    return int(np.argmin((runs.nonzeros + runs.fillers) * (widths + bits)))


def position_bits(weights: int) -> int:
    """Return the bits of a coo position, ceil(log2 weights)."""
    return (weights - 1).bit_length()


def stream_bits(codes: NDArray[np.integer] | ZeroRuns, bits: int, coding: str) -> int:
    """Return the length of a layer's stream in bits without encoding it.

    Args:
        codes: integer codes of one layer (float32 weights at 32 bits), or what ``count_zero_runs`` found in them.
        bits: bits of one code, 2..16, or 32 for a layer left in float32.
        coding: one of ``CODING_CHOICES``.

    Returns:
        Bits, before filling up to whole bytes. Equal to what ``encode`` writes.

    Raises:
        UserError: bits or coding are none of the above.
    """
    _check_coding(coding)
    if bits == FLOAT_BITS:
        return FLOAT_BITS * (codes.weights if isinstance(codes, ZeroRuns) else codes.size)
    bits = _checked_bits(bits)
    if coding == "normal":
        return bits * (codes.weights if isinstance(codes, ZeroRuns) else codes.size)
    runs = codes if isinstance(codes, ZeroRuns) else count_zero_runs(codes)
    return _stream_bits(runs, bits, best_coding(runs, bits) if coding == "best" else coding)


def stream_bytes(bits: NDArray[np.integer] | int) -> NDArray[np.int64]:
    """Return the whole bytes that streams of so many bits fill; any shape."""
    return (np.asarray(bits, np.int64) + 7) // 8


def best_coding(runs: ZeroRuns, bits: int) -> str:
    """Return the coding with the shortest stream in bits; the simplest among equals."""
    return min(_SIMPLEST_FIRST, key=lambda coding: _stream_bits(runs, bits, coding))


def encode(codes: NDArray[np.integer], bits: int, coding: str) -> Stream:
    """Write a layer's codes as a bit stream.

    Args:
        codes: integer codes in -(2^(bits-1) - 1) .. 2^(bits-1) - 1, any shape, in the order of the weights.
        bits: bits of one code, 2..16.
        coding: one of ``CODING_CHOICES``.

    Raises:
        UserError: bits, coding or a code are out of range, or there is no weight or more than ``MAX_WEIGHTS``.
    """
    _check_coding(coding)
    bits = _checked_bits(bits)
    flat = np.ascontiguousarray(codes).reshape(-1)
    if not 1 <= len(flat) <= MAX_WEIGHTS:
        raise UserError(f"expected a layer of 1 to {MAX_WEIGHTS} weights, found {len(flat)}")
    _check_codes(flat, bits)
    if coding == "normal":
        return Stream(_pack(_wrapped(flat, bits), bits), coding, len(flat))
    runs = count_zero_runs(flat)
    if coding == "best":
        coding = best_coding(runs, bits)
        if coding == "normal":
            return Stream(_pack(_wrapped(flat, bits), bits), coding, len(flat))
    positions = np.flatnonzero(flat)
    values = _wrapped(flat[positions], bits)
    if coding == "bitmap":
        mask = np.packbits(flat != 0, bitorder="little").tobytes()
        return Stream(_join(mask, len(flat), _pack(values, bits), len(values) * bits), coding, len(values))
    if coding == "coo":
        width = position_bits(len(flat))
        return Stream(_pack(_paired(positions, values, width), width + bits), coding, len(values), width)
    width = csr_index_bits(runs, bits)
    indices, values = _with_fillers(positions, values, width)
    return Stream(_pack(_paired(indices, values, width), width + bits), coding, len(values), width)


def decode(stream: Stream, count: int, bits: int) -> NDArray[np.int8] | NDArray[np.int16]:
    """Read a layer's codes back from a stream that may come from anywhere.

    Memory is bounded by ``count`` and the length of the stream, both checked before anything is made.

    Args:
        stream: what ``encode`` made, or claims to be.
        count: number of weights of the layer, 1..``MAX_WEIGHTS``.
        bits: bits of one code, 2..16.

    Returns:
        The codes, shape (count,), int8 up to 8 bits, int16 above.

    Raises:
        UserError: the stream is not exactly what ``encode`` makes of some codes (with any csr index width).
    """
    bits = _checked_bits(bits)
    if not 1 <= count <= MAX_WEIGHTS:
        raise UserError(f"expected a layer of 1 to {MAX_WEIGHTS} weights, found {count}")
    _check_stream(stream, count, bits)
    if stream.coding == "normal":
        codes = _codes_of(_unpack(stream.data, count, bits, 0), bits)
        _check_codes(codes, bits)
        return codes
    if stream.coding == "bitmap":
        mask = np.unpackbits(np.frombuffer(stream.data, np.uint8), count=count, bitorder="little").view(bool)
        positions = np.flatnonzero(mask)
        if len(positions) != stream.entries:
            raise UserError(f"expected {stream.entries} weights in a bitmap, found {len(positions)}")
        values = _codes_of(_unpack(stream.data, stream.entries, bits, count), bits)
    else:
        width = stream.index_bits
        numbers = _unpack(stream.data, stream.entries, width + bits, 0)
        indices = (numbers & ((1 << width) - 1)).astype(np.int64)
        values = _codes_of(numbers >> width, bits)
        if stream.coding == "csr":
            positions, values = _without_fillers(indices, values, width)
        else:
            positions = indices
        _check_positions(positions, count)
    _check_codes(values, bits)
    if not values.all():
        raise UserError(f"expected the {stream.coding} stream to name nonzero weights only, found a zero")
    codes = np.zeros(count, values.dtype)
    codes[positions] = values
    return codes


def coded_bits(coding: str, count: int, entries: int, bits: int, index_bits: int) -> int:
    """Return the bits of a stream of so many entries; ``bits`` 32 stands for plain float32."""
    if coding == "bitmap":
        return count + entries * bits
    return entries * (bits + index_bits)


def _stream_bits(runs: ZeroRuns, bits: int, coding: str) -> int:
    if coding == "normal":
        return runs.weights * bits
    if coding == "bitmap":
        return runs.weights + runs.nonzeros * bits
    if coding == "coo":
        return runs.nonzeros * (bits + position_bits(runs.weights))
    width = csr_index_bits(runs, bits)
    return (runs.nonzeros + int(runs.fillers[width])) * (bits + width)


def _with_fillers(
    positions: NDArray[np.int64], values: NDArray[np.uint16], width: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the indices and codes of all csr entries, fillers included."""
    gaps = np.diff(positions, prepend=-1) - 1
    places = np.cumsum((gaps >> width) + 1) - 1
    total = int(places[-1]) + 1 if len(places) else 0
    indices = np.full(total, (1 << width) - 1, np.int64)
    indices[places] = gaps & ((1 << width) - 1)
    entries = np.zeros(total, np.uint16)
    entries[places] = values
    return indices, entries


def _without_fillers(
    indices: NDArray[np.int64], values: NDArray[np.signedinteger], width: int
) -> tuple[NDArray[np.int64], NDArray[np.signedinteger]]:
    # At most 2^28 entries of at most 2^31 each: the sum cannot overflow.
    positions = np.cumsum(indices + 1) - 1
    real = values != 0
    if not (indices[~real] == (1 << width) - 1).all():
        raise UserError(f"expected {(1 << width) - 1} zeros before each csr filler, found fewer")
    if len(real) and not real[-1]:
        raise UserError("expected the last csr entry to be a weight, found a filler")
    return positions[real], values[real]


def _check_positions(positions: NDArray[np.int64], count: int) -> None:
    if len(positions) and int(positions.max()) >= count:
        raise UserError(f"expected positions within a layer of {count} weights, found {int(positions.max())}")
    if (np.diff(positions) <= 0).any():
        raise UserError("expected positions in ascending order, found them out of order")


def _check_stream(stream: Stream, count: int, bits: int) -> None:
    if stream.coding not in CODINGS:
        raise UserError(f"expected a coding of {', '.join(CODINGS)}, found {stream.coding!r}")
    widths = {"csr": range(MAX_INDEX_BITS + 1), "coo": (position_bits(count),)}.get(stream.coding, (0,))
    if stream.index_bits not in widths:
        raise UserError(f"expected index bits fit for a {stream.coding} stream, found {stream.index_bits}")
    if stream.entries > count or (stream.coding == "normal" and stream.entries != count):
        raise UserError(f"expected the entries of {count} weights, found {stream.entries}")
    length = coded_bits(stream.coding, count, stream.entries, bits, stream.index_bits)
    if len(stream.data) != (length + 7) // 8:
        raise UserError(f"expected a stream of {(length + 7) // 8} bytes, found {len(stream.data)}")
    if length % 8 and stream.data[-1] >> (length % 8):
        raise UserError("expected zeros after the last bit of a stream, found others")


def _check_coding(coding: str) -> None:
    if coding not in CODING_CHOICES:
        raise UserError(f"expected a coding of {', '.join(CODING_CHOICES)}, found {coding!r}")


def _checked_bits(bits: int) -> int:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise UserError(f"expected {MIN_BITS} to {MAX_BITS} bits for a weight, found {bits}")
    # A numpy integer would widen the arrays it is combined with.
    return int(bits)


def _check_codes(codes: NDArray[np.integer], bits: int) -> None:
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f"expected integer codes, found {codes.dtype}")
    largest = (1 << (bits - 1)) - 1
    if len(codes) and not -largest <= int(codes.min()) <= int(codes.max()) <= largest:
        raise UserError(f"expected codes of {bits} bits in -{largest}..{largest}, found {codes.min()}..{codes.max()}")


def _wrapped(codes: NDArray[np.integer], bits: int) -> NDArray[np.uint16]:
    """Return the codes in two's complement of so many bits."""
    return codes.astype(np.int16).view(np.uint16) & np.uint16((1 << bits) - 1)


def _codes_of(numbers: NDArray[np.integer], bits: int) -> NDArray[np.int8] | NDArray[np.int16]:
    """Undo ``_wrapped``."""
    spare = 16 - bits
    codes = (numbers.astype(np.uint16) << spare).view(np.int16) >> spare
    return codes.astype(np.int8) if bits <= 8 else codes


def _paired(
    indices: NDArray[np.int64], values: NDArray[np.uint16], width: int
) -> NDArray[np.uint32] | NDArray[np.uint64]:
    kind = np.uint32 if width <= 16 else np.uint64
    return indices.astype(kind) | (values.astype(kind) << kind(width))


def _pack(numbers: NDArray[np.unsignedinteger], width: int) -> bytes:
    """Write the low ``width`` bits of each number one after another."""
    numbers = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)
    size = numbers.itemsize
    pieces = []
    for start in range(0, len(numbers), _PIECE):
        piece = np.ascontiguousarray(numbers[start : start + _PIECE]).view(np.uint8).reshape(-1, size)
        bits = np.unpackbits(piece, axis=1, bitorder="little")[:, :width]
        pieces.append(np.packbits(bits, bitorder="little").tobytes())
    return b"".join(pieces)


def _unpack(data: bytes, count: int, width: int, start: int) -> NDArray[np.unsignedinteger]:
    """Read ``count`` numbers of ``width`` bits that begin at bit ``start``."""
    size = next(size for size in (1, 2, 4, 8) if 8 * size >= width)
    numbers = np.empty(count, np.dtype(f"<u{size}"))
    raw = np.frombuffer(data, np.uint8)
    for first in range(0, count, _PIECE):
        part = numbers[first : first + _PIECE]
        begin = start + first * width
        window = raw[begin // 8 : (begin + len(part) * width + 7) // 8]
        bits = np.unpackbits(window, bitorder="little")[begin % 8 :][: len(part) * width].reshape(-1, width)
        spread = np.packbits(bits, axis=1, bitorder="little")
        whole = np.zeros((len(part), size), np.uint8)
        whole[:, : spread.shape[1]] = spread
        part[:] = whole.view(numbers.dtype)[:, 0]
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)


def _join(first: bytes, first_bits: int, second: bytes, second_bits: int) -> bytes:
    """Put ``second`` right after the ``first_bits`` bits of ``first``."""
    spare = first_bits % 8
    if not spare:
        return first + second
    shifted = np.frombuffer(b"\0" + second + b"\0", np.uint8).astype(np.uint16) << spare
    moved = ((shifted[1:] & 0xFF) | (shifted[:-1] >> 8)).astype(np.uint8)
    joined = np.concatenate([np.frombuffer(first, np.uint8), moved[1:]])
    joined[len(first) - 1] |= moved[0]
    return joined[: math.ceil((first_bits + second_bits) / 8)].tobytes()
