"""Packing numbers of any bit width into bytes, and unpacking them.

Bit i of the stream is bit ``i % 8`` of byte ``i // 8``, where bit 0 is the least significant; numbers start with their
least significant bit.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Numbers are packed in pieces, since packing needs up to 64 bytes of memory per number. A piece ends on a whole byte,
# since its length is a multiple of 8.
_PIECE = 65_536


def pack(numbers: NDArray[np.unsignedinteger], width: int) -> bytes:
    """Return the low ``width`` bits of each number, one after another."""
    numbers = np.asarray(numbers, numbers.dtype.newbyteorder("<"))
    size = numbers.itemsize
    pieces = []
    for start in range(0, len(numbers), _PIECE):
        piece = np.ascontiguousarray(numbers[start : start + _PIECE])
        bits = np.unpackbits(piece.view(np.uint8).reshape(len(piece), size), axis=1, bitorder="little")[:, :width]
        pieces.append(np.packbits(bits, bitorder="little").tobytes())
    return b"".join(pieces)


def unpack(data: bytes, count: int, width: int, start: int) -> NDArray[np.unsignedinteger]:
    """Return ``count`` numbers of ``width`` bits that begin at bit ``start``."""
    size = next(size for size in (1, 2, 4, 8) if 8 * size >= width)
    numbers = np.empty(count, np.dtype(f"<u{size}"))
    raw = np.frombuffer(data, np.uint8)
    for first in range(0, count, _PIECE):
        part = numbers[first : first + _PIECE]
        begin = start + first * width
        bits = np.unpackbits(raw[begin // 8 :], count=begin % 8 + len(part) * width, bitorder="little")[begin % 8 :]
        spread = np.packbits(bits.reshape(len(part), width), axis=1, bitorder="little")
        whole = np.zeros((len(part), size), np.uint8)
        whole[:, : spread.shape[1]] = spread
        part[:] = whole.view(numbers.dtype).ravel()
    return np.asarray(numbers, numbers.dtype.newbyteorder("="))


def join(first: bytes, first_bits: int, second: bytes, second_bits: int) -> bytes:
    """Put ``second`` right after the ``first_bits`` bits of ``first``."""
    spare = first_bits % 8
    if not spare:
        return first + second
    shifted = np.frombuffer(b"\0" + second + b"\0", np.uint8).astype(np.uint16) << spare
    moved = (shifted[1:] | (shifted[:-1] >> 8)).astype(np.uint8)
    joined = np.concatenate([np.frombuffer(first, np.uint8), moved[1:]])
    joined[len(first) - 1] |= moved[0]
    return joined[: math.ceil((first_bits + second_bits) / 8)].tobytes()
