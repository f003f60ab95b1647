"""Canonical Huffman codes of at most 15 bits: from counts to lengths, to codes, and a table to decode them.

Codes of one length are consecutive numbers in the order of their symbols, and shorter codes come first, as in Deflate
(RFC 1951, section 3.2.2). The lengths alone therefore determine the codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH = 15

IntArray = NDArray[np.int64]


def code_lengths(counts: NDArray[np.integer]) -> IntArray:
    """Return the bits of each symbol's code, of all codes of at most ``MAX_LENGTH`` bits the shortest or nearly so.

    Args:
        counts: occurrences of each symbol, shape (symbols,).

    Returns:
        Shape (symbols,); 0 for a symbol that does not occur, and for one that is the only one.
    """
    lengths = np.zeros(len(counts), np.int64)
    used = np.flatnonzero(counts)
    weights = np.asarray(counts)[used]
    while len(used) > 1:
        found = _shortest(weights)
        if int(found.max()) <= MAX_LENGTH:
            lengths[used] = found
            break
        # Flatter counts give a flatter tree. It is rare: the counts must grow like Fibonacci's numbers.
        weights = (weights + 1) // 2
    return lengths


def _shortest(weights: NDArray[np.integer]) -> IntArray:
    """Return the lengths of a Huffman code for two or more symbols, by the method of two queues."""
    order = np.argsort(weights, kind="stable")
    leaves: list[int] = weights[order].tolist()
    count, merged = len(leaves), list[int]()
    parents = [0] * (2 * count - 1)
    leaf = inner = 0
    for parent in range(count, 2 * count - 1):
        total = 0
        for _ in range(2):
            # A leaf first where both weigh the same: the longest code is then as short as it can be.
            if leaf < count and (inner == len(merged) or leaves[leaf] <= merged[inner]):
                parents[leaf] = parent
                total += leaves[leaf]
                leaf += 1
            else:
                parents[count + inner] = parent
                total += merged[inner]
                inner += 1
        merged.append(total)
    depths = [0] * (2 * count - 1)
    for node in range(2 * count - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
    lengths = np.empty(count, np.int64)
    lengths[order] = depths[:count]
    return lengths


def is_complete(lengths: NDArray[np.integer]) -> bool:
    """Whether every sequence of bits is a sequence of codes: no code is missing, none begins with another."""
    used = np.asarray(lengths, np.int64)[np.asarray(lengths) > 0]
    return int((1 << (MAX_LENGTH - used)).sum()) == 1 << MAX_LENGTH


def reversed_codes(lengths: NDArray[np.integer]) -> IntArray:
    """Return each symbol's code with its first bit lowest, as it lies in a stream; 0 where there is none.

    Args:
        lengths: bits of each symbol's code, shape (symbols,).
    """
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, MAX_LENGTH + 1):
        code <<= 1
        for symbol in np.flatnonzero(lengths == length).tolist():
            codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
            code += 1
    return codes


def decoding_table(lengths: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the symbol whose code a stream goes on with, for each value of its next bits, the first bit lowest.

    Args:
        lengths: bits of each symbol's code, shape (symbols,), at most 256; a complete code.

    Returns:
        Shape (2^n,), n the bits of the longest code.
    """
    table = np.zeros(1 << int(lengths.max()), np.uint8)
    codes = reversed_codes(lengths)
    for symbol in np.flatnonzero(lengths).tolist():
        table[codes[symbol] :: 1 << int(lengths[symbol])] = symbol
    return table
