"""A writer and a reader of streams in the huffman coding.

A stream begins with the split s (4 bits), the number of symbols (8 bits) and the length of each symbol's code (4 bits
each). An entry is a gap, the number of zeros before a nonzero code, in a Rice code: floor(gap / 2^r) zeros, a one, and
the low r bits; then the value, magnitude - 1, and the sign. A value below 2^s is a symbol; the other values of one bit
length share a symbol, whose code is followed by the bits below the highest. With ``NO_GAPS`` there is an entry for each
weight, without a gap; its value is the magnitude, and a zero has no sign. ``docs/format.md`` has an example.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.code_counts import count_codes
from emomc.compression.huffman_code import decoding_table, is_complete, reversed_codes
from emomc.compression.huffman_plan import (
    COUNT_BITS,
    LENGTH_BITS,
    MAX_SPLIT,
    NO_GAPS,
    SPLIT_BITS,
    IntArray,
    extra_bits,
    header_bits,
    most_symbols,
    plan_huffman,
)
from emomc.compression.streams import Codes, Stream, all_codes, check_codes

# Entries that are written, and bits that are read, at a time: both take tens of bytes of memory each.
_ENTRIES, _WINDOW = 1 << 16, 1 << 14


def write_huffman(codes: Codes, bits: int) -> Stream:
    """Write each nonzero code with the number of zeros before it, or all codes, whichever is shorter."""
    plan = plan_huffman(count_codes(codes), bits)
    if not plan.bits:
        return Stream(b"", "huffman", 0)
    with_gaps = plan.gap_bits != NO_GAPS
    positions = np.flatnonzero(codes) if with_gaps else np.arange(len(codes))
    gaps = np.diff(positions, prepend=-1) - 1
    packer = _Packer()
    header = [(plan.split, SPLIT_BITS), (len(plan.lengths), COUNT_BITS)]
    header += [(length, LENGTH_BITS) for length in plan.lengths.tolist()]
    packer.add([(np.array([number]), np.array([width])) for number, width in header])
    code_of, extra_of = reversed_codes(plan.lengths), extra_bits(plan.split, len(plan.lengths))
    for first in range(0, len(positions), _ENTRIES):
        some = slice(first, first + _ENTRIES)
        chosen = codes[positions[some]].astype(np.int64)
        values = np.abs(chosen) - with_gaps
        symbols = _symbols(values, plan.split)
        parts = [
            (code_of[symbols], plan.lengths[symbols]),
            (values, extra_of[symbols]),
            ((chosen < 0).astype(np.int64), (chosen != 0).astype(np.int64)),
        ]
        if with_gaps:
            quotients = gaps[some] >> plan.gap_bits
            # Only the one after the zeros is a number to write.
            zeros = np.zeros(len(chosen), np.int64), quotients
            rest = gaps[some] << 1 | 1, np.full(len(chosen), plan.gap_bits + 1)
            parts = [zeros, rest, *parts]
        packer.add(parts)
    return Stream(packer.data(), "huffman", len(positions), plan.gap_bits)


def read_huffman(stream: Stream, count: int, bits: int) -> Codes:
    """Return the codes of ``write_huffman``."""
    kind = np.int8 if bits <= 8 else np.int16
    with_gaps = stream.index_bits != NO_GAPS
    if not stream.entries:
        if stream.data or not with_gaps:
            raise UserError(f"expected no bytes for a layer of zeros in huffman, found {len(stream.data)}")
        return np.zeros(count, kind)
    if not with_gaps and stream.entries != count:
        raise UserError(f"expected an entry for each of {count} weights, found {stream.entries}")
    table, start = _read_table(stream, bits)
    # An entry has one bit at least. This bounds the time.
    if stream.entries > 8 * len(stream.data) - start:
        raise UserError(f"expected {stream.entries} entries in huffman, found a stream of {len(stream.data)} bytes")
    gaps, codes, end = _read_entries(stream, table, start, count)
    spare = end % 8
    if (end + 7) // 8 != len(stream.data) or (spare and stream.data[-1] >> spare):
        raise UserError(f"expected the last entry at the end of {len(stream.data)} bytes, found it after {end} bits")
    check_codes(codes, bits)
    if not with_gaps:
        return codes.astype(kind)
    return all_codes(stream, np.cumsum(gaps + 1) - 1, codes.astype(kind), count)


def _symbols(values: IntArray, split: int) -> IntArray:
    """Return the symbol of each value."""
    bit_lengths = np.frexp(values.astype(np.float64))[1]
    return np.where(values < 1 << split, values, (1 << split) + bit_lengths - split - 1)


class _Packer:
    """Joins numbers of different widths to bytes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bits = np.zeros(0, np.uint8)

    def add(self, parts: list[tuple[IntArray, IntArray]]) -> None:
        """Add the numbers of entries, entry after entry.

        Args:
            parts: for each part of an entry, the numbers and their widths in bits, each of shape (entries,). Of a
                number only the low bits up to its width are taken; 0 has any width.
        """
        ends = np.cumsum(np.stack([widths for _, widths in parts], axis=1))
        bits = np.concatenate([self._bits, np.zeros(int(ends[-1]), np.uint8)])
        starts = len(self._bits) + np.concatenate([[0], ends[:-1]]).reshape(-1, len(parts))
        for index, (numbers, widths) in enumerate(parts):
            # Zeros are there already.
            filled = np.flatnonzero(numbers)
            for bit in range(int(widths[filled].max(initial=0))):
                filled = filled[widths[filled] > bit]
                bits[starts[filled, index] + bit] = numbers[filled] >> bit & 1
        whole = len(bits) // 8 * 8
        self._pieces.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._bits = bits[whole:]

    def data(self) -> bytes:
        """Return all bits, padded with zeros to a whole byte."""
        return b"".join([*self._pieces, np.packbits(self._bits, bitorder="little").tobytes()])


@dataclasses.dataclass(frozen=True, eq=False)
class _Table:
    """What a stream says of its symbols."""

    split: int
    lengths: IntArray
    """Bits of each symbol's code, shape (symbols,)."""
    extra: IntArray
    """Bits that follow the code, shape (symbols,)."""
    symbols: NDArray[np.uint8]
    """Symbol of the next bits of a stream, shape (2^n,)."""


def _read_table(stream: Stream, bits: int) -> tuple[_Table, int]:
    """Return the table at the begin of a stream and the bit after it."""
    front = int.from_bytes(stream.data[: (header_bits(255) + 7) // 8], "little")
    split, count = front & ((1 << SPLIT_BITS) - 1), front >> SPLIT_BITS & ((1 << COUNT_BITS) - 1)
    start = header_bits(count)
    if split > min(MAX_SPLIT, bits - 1) or not 1 <= count <= most_symbols(split, bits) or start > 8 * len(stream.data):
        raise UserError(f"expected a table of symbols for {bits} bits, found {count} symbols and the split {split}")
    places = SPLIT_BITS + COUNT_BITS + LENGTH_BITS * np.arange(count)
    lengths = np.array([front >> place & ((1 << LENGTH_BITS) - 1) for place in places.tolist()], np.int64)
    if not lengths.any():
        symbols = np.array([count - 1], np.uint8)
    elif is_complete(lengths):
        symbols = decoding_table(lengths)
    else:
        raise UserError(f"expected the lengths of a complete code in huffman, found {lengths.tolist()}")
    if stream.index_bits == NO_GAPS and count == 1:
        raise UserError("expected another symbol than zero in huffman, found none")
    return _Table(split, lengths, extra_bits(split, count), symbols), start


def _read_entries(stream: Stream, table: _Table, start: int, count: int) -> tuple[IntArray, IntArray, int]:
    """Return the gaps and the codes of all entries, and the bit after the last."""
    gaps, codes = [], []
    position, left, window = start, stream.entries, _WINDOW
    while left:
        piece = _Window(stream, table, position, window)
        entries, after = piece.entries(left)
        if not len(entries):
            if piece.is_last:
                raise UserError(f"expected {left} more entries in huffman, found the end of the stream")
            window *= 2  # an entry longer than the window
            continue
        some_gaps, some_codes = piece.read(entries)
        # Positions cannot overflow later.
        if int(some_gaps.max()) >= count:
            raise UserError(f"expected positions within a layer of {count} weights, found {int(some_gaps.max())}")
        gaps.append(some_gaps)
        codes.append(some_codes)
        left -= len(entries)
        position = after
    return np.concatenate(gaps), np.concatenate(codes), position


class _Window:
    """Some bits of a stream, and where an entry would end that begins at each of them.

    Where an entry begins is known only when the one before is read. Instead of reading them one by one, the end is
    computed for every bit at once, and the entries are found by following the ends from the first.
    """

    def __init__(self, stream: Stream, table: _Table, position: int, window: int) -> None:
        """Take up to ``window`` bits from the byte of bit ``position``."""
        self._table, self._with_gaps, self._gap_bits = table, stream.index_bits != NO_GAPS, stream.index_bits
        self._first = position // 8 * 8
        self._begin = position % 8
        data = stream.data[position // 8 : position // 8 + window // 8]
        self.is_last = position // 8 + len(data) == len(stream.data)
        raw = np.frombuffer(data + bytes(8), np.uint8)
        self._count = 8 * len(data)
        # Eight bytes from each byte on: 57 bits from each bit on.
        self._words = np.lib.stride_tricks.sliding_window_view(raw, 8)[: len(data) + 1].copy().view("<u8").ravel()
        every = np.arange(self._count + 1)
        self._ones = every
        if self._with_gaps:
            bits = np.append(np.unpackbits(raw[: len(data)], bitorder="little").view(bool), True)
            # The one that ends the zeros of a gap: at this bit or after.
            self._ones = np.minimum.accumulate(np.where(bits, every, self._count)[::-1])[::-1]
        values = self._value_starts(every)
        symbols = self._symbols_at(every)
        lengths = table.lengths + table.extra + 1
        if not self._with_gaps:
            lengths[0] -= 1  # a zero has no sign
        ends = every + lengths[symbols]
        self._ends = np.where(values <= self._count, ends[np.minimum(values, self._count)], self._count + 1)

    def entries(self, most: int) -> tuple[IntArray, int]:
        """Return the first bits of up to ``most`` entries that lie in the window, and the stream's bit after them."""
        ends: list[int] = self._ends.tolist()
        found = list[int]()
        place = self._begin
        for _ in range(most):
            end = ends[place]
            if end > self._count:
                break
            found.append(place)
            place = end
        return np.array(found, np.int64), self._first + place

    def read(self, entries: IntArray) -> tuple[IntArray, IntArray]:
        """Return the gaps and the codes of entries that begin at these bits."""
        table = self._table
        gaps = np.zeros(len(entries), np.int64)
        if self._with_gaps:
            ones = self._ones[entries]
            gaps = (ones - entries) << self._gap_bits | self._numbers(ones + 1, self._gap_bits)
        places = self._value_starts(entries)
        symbols = self._symbols_at(places)
        extra, places = table.extra[symbols], places + table.lengths[symbols]
        shared = symbols >= 1 << table.split
        values = np.where(shared, 1 << extra | self._numbers(places, extra), symbols) + self._with_gaps
        negative = self._numbers(places + extra, 1)
        return gaps, np.where((negative == 1) & (values > 0), -values, values)

    def _value_starts(self, entries: IntArray) -> IntArray:
        return self._ones[entries] + 1 + self._gap_bits if self._with_gaps else entries

    def _symbols_at(self, places: IntArray) -> NDArray[np.uint8]:
        return self._table.symbols[self._numbers(places, len(self._table.symbols).bit_length() - 1)]

    def _numbers(self, places: IntArray, widths: IntArray | int) -> IntArray:
        """Return the numbers of so many bits at these places."""
        bits = self._words[places >> 3] >> (places & 7).view(np.uint64)
        return bits.view(np.int64) & ((1 << np.asarray(widths, np.int64)) - 1)
