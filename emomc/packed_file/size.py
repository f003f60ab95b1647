"""Compute the size of a packed file without writing it.

Only the layers' scales, streams and grids of inputs depend on the candidate; the rest is the same for all candidates of
a library.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emomc.compression.codings import stream_bytes
from emomc.packed_file.layout import CHECKSUM, HALF_BYTES, HEADER, SCALE_BYTES, SHARED_EXPONENT, aligned
from emomc.packed_file.network import NetworkDescription, metadata_of
from emomc.packed_file.records import layer_record_bytes, tensor_record_bytes


def fixed_bytes(
    description: NetworkDescription,
    layers: Mapping[str, int],
    tensors: Mapping[str, Any],
    biases: Collection[str] = (),
) -> int:
    """Return the bytes of a packed file that are the same for every candidate of a library.

    Args:
        description: the description that will be written.
        layers: name -> dimensions of the weights of every convolution and linear layer, uncompressed ones included.
        tensors: the folded network's other entries, arrays or torch tensors; only names, shapes and types matter.
        biases: names of those whose numbers ``layer_bytes`` counts.
    """
    fixed = [tensor for name, tensor in tensors.items() if name not in biases]
    sizes = [math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in fixed]
    records = sum(map(layer_record_bytes, layers.values()))
    records += sum(tensor_record_bytes(len(tensor.shape)) for tensor in tensors.values())
    names = sum(len(name.encode()) for name in (*layers, *tensors))
    before = aligned(HEADER.size + 8 * len(description.mean) + records + names + len(metadata_of(description)))
    return int(before) + sum(map(aligned, sizes)) + CHECKSUM.size


def packed_size_bytes(
    fixed: int, stream_bits: NDArray[np.integer[Any]], scale_bytes: ArrayLike, other_bytes: ArrayLike = 0
) -> NDArray[np.int64]:
    """Return the size of the packed file of each candidate of a population.

    Args:
        fixed: ``fixed_bytes`` of the library, bytes.
        stream_bits: (candidates, layers): ``stream_bits`` of each layer's codes, bits; 32 per uncompressed weight.
        scale_bytes: see ``layer_bytes``.
        other_bytes: see ``layer_bytes``.

    Returns:
        Bytes, shape (candidates,): exactly the size of the file that ``write_packed`` writes.
    """
    return fixed + layer_bytes(stream_bits, scale_bytes, other_bytes).sum(axis=-1)


def layer_bytes(
    stream_bits: NDArray[np.integer[Any]], scale_bytes: ArrayLike, other_bytes: ArrayLike = 0
) -> NDArray[np.int64]:
    """Return the bytes that each layer adds to the file: scales, stream, padding, and what else depends on it.

    Args:
        stream_bits: (..., layers), bits.
        scale_bytes: broadcastable to it: of the layer's scales, see ``bytes_of_scales``; 0 where it is uncompressed.
        other_bytes: broadcastable to it: 4 for a step of its inputs, and those of its bias, see ``bytes_of_bias``.
    """
    scales = np.asarray(scale_bytes, np.int64)
    return np.asarray(aligned(scales + stream_bytes(stream_bits)) + np.asarray(other_bytes, np.int64))


def bytes_of_scales(scales: int, *, half: bool) -> int:
    """Return the bytes of the scales of a layer, of two or more in float16 if ``half``."""
    return SHARED_EXPONENT.size + HALF_BYTES * scales if half and scales > 1 else SCALE_BYTES * scales


def bytes_of_bias(channels: int, *, half: bool) -> int:
    """Return the bytes of the bias of so many output channels, in float16 or float32."""
    return int(aligned((HALF_BYTES if half else SCALE_BYTES) * channels))
