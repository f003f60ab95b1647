"""Compute the size of a packed file without writing it.

Only the lengths of the layers' scales and streams depend on the candidate; the rest is the same for all candidates of a
library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emomc.compression.codings import stream_bytes
from emomc.packed_file.layout import CHECKSUM, HEADER, LAYER, TENSOR, aligned
from emomc.packed_file.network import NetworkDescription, metadata_of


def fixed_bytes(description: NetworkDescription, layer_names: Iterable[str], tensors: Mapping[str, Any]) -> int:
    """Return the bytes of a packed file that are the same for every candidate of a library.

    Args:
        description: the description that will be written.
        layer_names: names of all convolution and linear layers, uncompressed ones included.
        tensors: the folded network's other entries, arrays or torch tensors; only names, shapes and types matter.
    """
    names = [*layer_names]
    sizes = [math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors.values()]
    return bytes_before_data(description, names, list(tensors)) + sum(map(aligned, sizes)) + CHECKSUM.size


def packed_size_bytes(fixed: int, stream_bits: NDArray[np.integer[Any]], scale_counts: ArrayLike) -> NDArray[np.int64]:
    """Return the size of the packed file of each candidate of a population.

    Args:
        fixed: ``fixed_bytes`` of the library, bytes.
        stream_bits: (candidates, layers): ``stream_bits`` of each layer's codes, bits; 32 per uncompressed weight.
        scale_counts: (layers,) or (candidates, layers): 1 or the output channels; 0 where uncompressed.

    Returns:
        Bytes, shape (candidates,): exactly the size of the file that ``write_packed`` writes.
    """
    return fixed + layer_bytes(stream_bits, scale_counts).sum(axis=-1)


def layer_bytes(stream_bits: NDArray[np.integer[Any]], scale_counts: ArrayLike) -> NDArray[np.int64]:
    """Return the bytes that each layer adds to the file: scales, stream and padding.

    Args:
        stream_bits: (..., layers), bits.
        scale_counts: broadcastable to it.
    """
    return 4 * np.asarray(scale_counts, np.int64) + aligned(stream_bytes(stream_bits))


def bytes_before_data(description: NetworkDescription, layer_names: Sequence[str], tensor_names: Sequence[str]) -> int:
    """Return the bytes before the first layer's data."""
    records = LAYER.size * len(layer_names) + TENSOR.size * len(tensor_names)
    names = sum(len(name.encode()) for name in (*layer_names, *tensor_names))
    return int(aligned(HEADER.size + 8 * len(description.mean) + records + names + len(metadata_of(description))))
