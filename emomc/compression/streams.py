"""A writer and a reader of bit streams for each coding."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.bit_packing import join, pack, unpack
from emomc.compression.code_counts import count_codes, csr_index_bits, position_bits

Codes = NDArray[np.signedinteger]
Positions = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Stream:
    """One encoded layer."""

    data: bytes
    """The bits, padded with zeros to a whole byte."""
    coding: str
    """A name of ``CODINGS``."""
    entries: int
    """Codes in it: all weights (normal; huffman without gaps), nonzeros and fillers (csr), nonzeros (others)."""
    index_bits: int = 0
    """Bits of a csr index, a coo position, or a gap's remainder in huffman; 0 otherwise."""


def write_normal(codes: Codes, bits: int) -> Stream:
    """Write all codes one after another."""
    return Stream(pack(to_complement(codes, bits), bits), "normal", len(codes))


def read_normal(stream: Stream, count: int, bits: int) -> Codes:
    """Return the codes of ``write_normal``."""
    return from_complement(unpack(stream.data, count, bits, 0), bits)


def write_csr(codes: Codes, bits: int) -> Stream:
    """Write the number of zeros before each nonzero code, then the code; fillers where the number is too large."""
    positions = np.flatnonzero(codes)
    width = csr_index_bits(count_codes(codes), bits)
    gaps = np.diff(positions, prepend=-1) - 1
    places = np.cumsum((gaps >> width) + 1) - 1
    total = int(places[-1]) + 1 if len(places) else 0
    indices = np.full(total, (1 << width) - 1, np.int64)
    indices[places] = gaps & ((1 << width) - 1)
    entries = np.zeros(total, np.uint16)
    entries[places] = to_complement(codes[positions], bits)
    return Stream(pack(join_pairs(indices, entries, width), width + bits), "csr", total, width)


def read_csr(stream: Stream, count: int, bits: int) -> Codes:
    """Return the codes of ``write_csr``."""
    indices, values = split_pairs(stream, bits)
    # At most 2^28 entries of at most 2^31 each: the sum cannot overflow.
    positions = np.cumsum(indices + 1) - 1
    real = values != 0
    most = (1 << stream.index_bits) - 1
    if not (indices[~real] == most).all():
        raise UserError(f"expected {most} zeros before each csr filler, found fewer")
    if len(real) and not real[-1]:
        raise UserError("expected the last csr entry to be a weight, found a filler")
    return all_codes(stream, positions[real], values[real], count)


def write_coo(codes: Codes, bits: int) -> Stream:
    """Write the position of each nonzero code, then the code."""
    positions = np.flatnonzero(codes)
    width = position_bits(len(codes))
    pairs = join_pairs(positions, to_complement(codes[positions], bits), width)
    return Stream(pack(pairs, width + bits), "coo", len(positions), width)


def read_coo(stream: Stream, count: int, bits: int) -> Codes:
    """Return the codes of ``write_coo``."""
    return all_codes(stream, *split_pairs(stream, bits), count)


def write_bitmap(codes: Codes, bits: int) -> Stream:
    """Write one bit per weight, then the nonzero codes."""
    values = to_complement(codes[np.flatnonzero(codes)], bits)
    mask = np.packbits(codes != 0, bitorder="little").tobytes()
    data = join(mask, len(codes), pack(values, bits), len(values) * bits)
    return Stream(data, "bitmap", len(values))


def read_bitmap(stream: Stream, count: int, bits: int) -> Codes:
    """Return the codes of ``write_bitmap``."""
    mask = np.unpackbits(np.frombuffer(stream.data, np.uint8), count=count, bitorder="little").view(bool)
    positions = np.flatnonzero(mask)
    if len(positions) != stream.entries:
        raise UserError(f"expected {stream.entries} weights in a bitmap, found {len(positions)}")
    values = from_complement(unpack(stream.data, stream.entries, bits, count), bits)
    return all_codes(stream, positions, values, count)


def check_codes(codes: NDArray[np.integer], bits: int) -> None:
    """Check that all codes are integers in -(2^(bits-1) - 1) .. 2^(bits-1) - 1.

    Raises:
        UserError: a code is not.
    """
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f"expected integer codes, found {codes.dtype}")
    largest = (1 << (bits - 1)) - 1
    if len(codes) and not -largest <= int(codes.min()) <= int(codes.max()) <= largest:
        raise UserError(f"expected codes of {bits} bits in -{largest}..{largest}, found {codes.min()}..{codes.max()}")


def all_codes(stream: Stream, positions: Positions, values: Codes, count: int) -> Codes:
    """Return all codes of a layer, given the positions and values of the nonzero ones."""
    if len(positions) and int(positions.max()) >= count:
        raise UserError(f"expected positions within a layer of {count} weights, found {int(positions.max())}")
    if (np.diff(positions) <= 0).any():
        raise UserError("expected positions in ascending order, found them out of order")
    if not values.all():
        raise UserError(f"expected the {stream.coding} stream to hold nonzero codes only, found a zero")
    codes = np.zeros(count, values.dtype)
    codes[positions] = values
    return codes


def to_complement(codes: NDArray[np.integer], bits: int) -> NDArray[np.uint16]:
    """Return the codes in two's complement of ``bits`` bits."""
    return codes.astype(np.int16).view(np.uint16) & np.uint16((1 << bits) - 1)


def from_complement(numbers: NDArray[np.integer], bits: int) -> Codes:
    """Return the codes of numbers in two's complement of ``bits`` bits: int8 up to 8 bits, int16 above."""
    spare = 16 - bits
    codes = (numbers.astype(np.uint16) << spare).view(np.int16) >> spare
    return codes.astype(np.int8) if bits <= 8 else codes


def join_pairs(indices: Positions, values: NDArray[np.uint16], width: int) -> NDArray[np.unsignedinteger]:
    """Return numbers with an index in their low ``width`` bits and a code above."""
    kind = np.uint32 if width <= 16 else np.uint64
    return indices.astype(kind) | (values.astype(kind) << kind(width))


def split_pairs(stream: Stream, bits: int) -> tuple[Positions, Codes]:
    """Return the indices and the codes of a csr or coo stream."""
    width = stream.index_bits
    numbers = unpack(stream.data, stream.entries, width + bits, 0)
    return (numbers & ((1 << width) - 1)).astype(np.int64), from_complement(numbers >> width, bits)
