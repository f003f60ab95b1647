"""Compute the size of a packed file without writing it.

Only the layers' scales, streams and grids of inputs depend on the candidate; the rest is the same for all candidates of
a library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emomc.compression.codings import stream_bytes
from emomc.packed_file.layout import CHECKSUM, HEADER, NUMBER_BYTES, aligned
from emomc.packed_file.network import NetworkDescription, metadata_of
from emomc.packed_file.records import layer_record_bytes, tensor_record_bytes


def fixed_bytes(description: NetworkDescription, layers: Mapping[str, int], tensors: Mapping[str, Any]) -> int:
    """Return the bytes of a packed file that are the same for every candidate of a library.

    Args:
        description: the description that will be written.
        layers: name -> dimensions of the weights of every convolution and linear layer, uncompressed ones included.
        tensors: the folded network's other entries, arrays or torch tensors; only names, shapes and types matter.
    """
    sizes = [math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors.values()]
    records = sum(map(layer_record_bytes, layers.values()))
    records += sum(tensor_record_bytes(len(tensor.shape)) for tensor in tensors.values())
    names = sum(len(name.encode()) for name in (*layers, *tensors))
    before = aligned(HEADER.size + 8 * len(description.mean) + records + names + len(metadata_of(description)))
    return int(before) + sum(map(aligned, sizes)) + CHECKSUM.size


def packed_size_bytes(fixed: int, stream_bits: NDArray[np.integer[Any]], numbers: ArrayLike) -> NDArray[np.int64]:
    """Return the size of the packed file of each candidate of a population.

    Args:
        fixed: ``fixed_bytes`` of the library, bytes.
        stream_bits: (candidates, layers): ``stream_bits`` of each layer's codes, bits; 32 per uncompressed weight.
        numbers: (layers,) or (candidates, layers): scales (1 or the output channels; 0 where uncompressed) and, where
            inputs are rounded, 1 more for their step.

    Returns:
        Bytes, shape (candidates,): exactly the size of the file that ``write_packed`` writes.
    """
    return fixed + layer_bytes(stream_bits, numbers).sum(axis=-1)


def layer_bytes(stream_bits: NDArray[np.integer[Any]], numbers: ArrayLike) -> NDArray[np.int64]:
    """Return the bytes that each layer adds to the file: scales, stream, padding, and the step of its inputs.

    Args:
        stream_bits: (..., layers), bits.
        numbers: scales and steps, broadcastable to it.
    """
    return NUMBER_BYTES * np.asarray(numbers, np.int64) + aligned(stream_bytes(stream_bits))
