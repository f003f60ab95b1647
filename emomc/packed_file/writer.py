"""A compressed network and its packed file, as small as the exact account says.

Of the file only the scales and streams of the layers depend, in length, on what a search chose; the rest is the same
for all candidates of a library.
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emomc.common.errors import UserError
from emomc.common.files import whole_file
from emomc.compression.codings import CODINGS, FLOAT_BITS, MAX_BITS, MAX_WEIGHTS, MIN_BITS, Stream, encode, stream_bytes
from emomc.packed_file.layout import (
    CHECKSUM,
    HEADER,
    LAYER,
    LAYER_DIMENSIONS,
    MAGIC,
    MAX_METADATA_BYTES,
    MAX_NAME_BYTES,
    MAX_RECORDS,
    MAX_SIDE,
    MAX_TENSOR_DIMENSIONS,
    TENSOR,
    TYPES,
    VERSION,
    aligned,
    metadata_bytes,
    padded,
)


@dataclasses.dataclass(frozen=True)
class NetworkDescription:
    """What a packed file says of its network besides the weights."""

    network: str
    """A name of ``emomc.networks.zoo.NETWORKS``, or how the user named a network of their own."""
    network_args: dict[str, Any]
    """Arguments of its constructor, JSON values."""
    network_source_sha256: str | None
    """Digest of the source file of a user's network, 64 hex digits."""
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    """Per channel, of pixels scaled to 0..1, kept in float32; empty where the normalisation is not known."""
    std: tuple[float, ...] = ()
    """As ``mean``; positive."""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedLayer:
    """The weights of one layer: ``codes * scale``, one float32 multiplication each."""

    name: str
    """Name of the module; its weights are the state dict's ``NAME.weight``."""
    bits: int
    """2..16, or 32 for weights left in float32."""
    codes: NDArray[Any]
    """Integer codes in the weight's shape (float32 weights at 32 bits), output channels first."""
    scale: NDArray[np.float32]
    """Shape (1,) or (output channels,), a folded BatchNorm included; (0,) at 32 bits."""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedNetwork:
    """A compressed network: everything that a packed file holds."""

    description: NetworkDescription
    layers: tuple[PackedLayer, ...]
    tensors: dict[str, NDArray[Any]]
    """Every other entry of the folded network's state dict: biases, norms that stay, buffers."""


def fixed_bytes(description: NetworkDescription, layer_names: Iterable[str], tensors: Mapping[str, Any]) -> int:
    """Return the bytes of a packed file that are the same for every candidate of a library.

    Args:
        description: as it will be written.
        layer_names: names of all convolution and linear layers, uncompressed ones included.
        tensors: the folded network's other entries, arrays or torch tensors; only names, shapes and types matter.
    """
    names = [*layer_names]
    sizes = [math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors.values()]
    return _front_bytes(description, names, list(tensors)) + sum(map(aligned, sizes)) + CHECKSUM.size


def packed_size_bytes(fixed: int, stream_bits: NDArray[np.integer[Any]], scale_counts: ArrayLike) -> NDArray[np.int64]:
    """Return the size of the packed file of each candidate of a population.

    Args:
        fixed: ``fixed_bytes`` of the library, bytes.
        stream_bits: (candidates, layers): ``stream_bits`` of each layer's codes, bits; 32 per uncompressed weight.
        scale_counts: (layers,) or (candidates, layers): 1 or the output channels; 0 where uncompressed.

    Returns:
        Bytes, shape (candidates,): to the byte what ``write_packed`` writes.
    """
    return fixed + layer_bytes(stream_bits, scale_counts).sum(axis=-1)


def layer_bytes(stream_bits: NDArray[np.integer[Any]], scale_counts: ArrayLike) -> NDArray[np.int64]:
    """Return what each layer adds to the file: scales, stream and alignment, bytes.

    Args:
        stream_bits: (..., layers), bits.
        scale_counts: broadcastable to it.
    """
    return 4 * np.asarray(scale_counts, np.int64) + aligned(stream_bytes(stream_bits))


def write_packed(path: Path, packed: PackedNetwork, coding: str) -> int:
    """Write a packed file, whole or not at all.

    Args:
        path: the file to make or replace.
        packed: the network.
        coding: normal, csr, coo, bitmap, or best per layer.

    Returns:
        Its size, bytes.

    Raises:
        UserError: as ``pack_bytes``.
    """
    data = pack_bytes(packed, coding)
    with whole_file(path) as partial:
        partial.write_bytes(data)
    return len(data)


def pack_bytes(packed: PackedNetwork, coding: str) -> bytes:
    """Return the content of a packed file; the same bytes for the same network.

    Args:
        packed: the network.
        coding: normal, csr, coo, bitmap, or best per layer.

    Raises:
        UserError: something has no place in the format: see ``check_packed``.
    """
    check_packed(packed)
    description, layers, tensors = packed.description, packed.layers, packed.tensors
    layer_names, tensor_names = [layer.name for layer in layers], list(tensors)
    metadata = _metadata_of(description)
    texts = [name.encode() for name in (*layer_names, *tensor_names)]
    name_offsets = np.cumsum([0, *map(len, texts)]).tolist()
    offset = _front_bytes(description, layer_names, tensor_names)

    records, blobs = [], []
    for index, layer in enumerate(layers):
        stream = _encoded(layer, coding)
        shape = (*layer.codes.shape, 0, 0, 0, 0)[:4]
        numbers = (layer.codes.ndim, layer.bits, CODINGS.index(stream.coding), stream.index_bits, 0, *shape)
        counts = (len(layer.scale), stream.entries, len(stream.data))
        records.append(LAYER.pack(name_offsets[index], len(texts[index]), *numbers, *counts, offset))
        blobs.append(layer.scale.astype("<f4").tobytes() + padded(stream.data))
        offset += len(blobs[-1])
    for index, tensor in enumerate(tensors.values(), len(layers)):
        little = tensor.astype(tensor.dtype.newbyteorder("<"))
        shape = (*tensor.shape, 0, 0, 0, 0, 0, 0)[:MAX_TENSOR_DIMENSIONS]
        numbers = (TYPES.index(little.dtype), tensor.ndim, *shape)
        records.append(TENSOR.pack(name_offsets[index], len(texts[index]), *numbers, offset))
        blobs.append(padded(little.tobytes()))
        offset += len(blobs[-1])

    header = HEADER.pack(
        *(MAGIC, VERSION, len(layers), offset + CHECKSUM.size, len(tensors), name_offsets[-1], len(metadata)),
        *(*description.input_shape, len(description.class_names), int(bool(description.mean))),
    )
    normalisation = np.array([*description.mean, *description.std], "<f4").tobytes()
    body = b"".join([padded(b"".join([header, normalisation, *records, *texts, metadata])), *blobs])
    return body + CHECKSUM.pack(zlib.crc32(body))


def check_packed(packed: PackedNetwork) -> None:
    """Make sure that a network is one that a packed file can hold; integer codes are checked where they are coded.

    Raises:
        UserError: a name, shape, type or count is out of the format's range, or a number is not finite.
    """
    check_description(packed.description)
    _check_names([layer.name for layer in packed.layers], list(packed.tensors))
    for layer in packed.layers:
        _check_layer(layer)
    weights = sum(layer.codes.size for layer in packed.layers)
    if weights > MAX_WEIGHTS:
        raise UserError(f"expected at most {MAX_WEIGHTS} weights in a network, found {weights}")
    for name, tensor in packed.tensors.items():
        if tensor.dtype.newbyteorder("<") not in TYPES:
            raise UserError(f"expected numbers of a plain type in {name}, found {tensor.dtype}")
        if tensor.ndim > MAX_TENSOR_DIMENSIONS or not 1 <= tensor.size < 1 << 32:
            raise UserError(
                f"expected numbers in at most {MAX_TENSOR_DIMENSIONS} dimensions in {name}, found {tensor.shape}"
            )
        _check_finite(name, tensor)


def _metadata_of(description: NetworkDescription) -> bytes:
    values = dataclasses.asdict(description)
    try:
        metadata = metadata_bytes(
            {key: values[key] for key in ("network", "network_args", "network_source_sha256", "class_names")}
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"expected arguments of a network that fit into JSON, found: {error}") from None
    if len(metadata) > MAX_METADATA_BYTES:
        raise UserError(f"expected at most {MAX_METADATA_BYTES} bytes of metadata, found {len(metadata)}")
    return metadata


def _front_bytes(description: NetworkDescription, layer_names: Sequence[str], tensor_names: Sequence[str]) -> int:
    """Return the bytes before the first layer's data."""
    records = LAYER.size * len(layer_names) + TENSOR.size * len(tensor_names)
    names = sum(len(name.encode()) for name in (*layer_names, *tensor_names))
    return int(aligned(HEADER.size + 8 * len(description.mean) + records + names + len(_metadata_of(description))))


def _encoded(layer: PackedLayer, coding: str) -> Stream:
    if layer.bits == FLOAT_BITS:
        return Stream(layer.codes.astype("<f4").tobytes(), "normal", layer.codes.size)
    return encode(layer.codes, layer.bits, coding)


def check_description(description: NetworkDescription) -> None:
    """Make sure that a description is one that a packed file can hold.

    Raises:
        UserError: an entry has no place in the format.
    """
    names, digest = description.class_names, description.network_source_sha256
    if not isinstance(description.network, str) or not description.network.isprintable() or not description.network:
        raise UserError(f"expected the name of a network, found {description.network!r}")
    if not isinstance(description.network_args, dict):
        raise UserError(f"expected the arguments of a network by name, found {type(description.network_args).__name__}")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise UserError(f"expected the SHA-256 of a network's source as 64 hex digits, found {digest!r}")
    if not all(isinstance(name, str) for name in names) or not 1 <= len(names) <= MAX_RECORDS:
        raise UserError(f"expected the names of 1 to {MAX_RECORDS} classes, found {len(names)}")
    if len(description.input_shape) != 3 or not all(1 <= side <= MAX_SIDE for side in description.input_shape):
        raise UserError(f"expected channels, height and width in 1..{MAX_SIDE}, found {description.input_shape}")
    mean, std = (np.array(values, np.float32) for values in (description.mean, description.std))
    if not len(mean) == len(std) or len(mean) not in (0, description.input_shape[0]):
        raise UserError(f"expected a mean and a deviation per channel or none, found {len(mean)} and {len(std)}")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise UserError(f"expected finite means and positive deviations, found {mean.tolist()} and {std.tolist()}")
    _metadata_of(description)


def _check_names(layers: Sequence[str], tensors: Sequence[str]) -> None:
    if not 1 <= len(layers) <= MAX_RECORDS or len(tensors) > MAX_RECORDS:
        raise UserError(f"expected 1 to {MAX_RECORDS} layers and tensors, found {len(layers)} and {len(tensors)}")
    entries = [f"{name}.weight" for name in layers] + [*tensors]
    if len(set(entries)) != len(entries):
        raise UserError("expected every layer and tensor under a name of its own, found one twice")
    for name in (*layers, *tensors):
        if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
            raise UserError(f"expected names of 1 to {MAX_NAME_BYTES} bytes, found one of {len(name.encode())}")
        if not name.isprintable():
            raise UserError(f"expected names that can be printed, found {name!r}")


def _check_layer(layer: PackedLayer) -> None:
    name, shape = layer.name, layer.codes.shape
    if len(shape) not in LAYER_DIMENSIONS or not 1 <= layer.codes.size <= MAX_WEIGHTS:
        raise UserError(f"expected the weights of a convolution or linear layer in {name}, found the shape {shape}")
    if layer.scale.dtype != np.float32 or layer.scale.ndim != 1:
        raise UserError(f"expected a row of float32 scales for {name}, found {layer.scale.dtype} {layer.scale.shape}")
    if layer.bits == FLOAT_BITS:
        if layer.codes.dtype != np.float32 or len(layer.scale):
            raise UserError(f"expected float32 weights without a scale in {name}, found {layer.codes.dtype}")
        _check_finite(name, layer.codes)
        return
    if not MIN_BITS <= layer.bits <= MAX_BITS:
        raise UserError(f"expected {MIN_BITS} to {MAX_BITS} or {FLOAT_BITS} bits for {name}, found {layer.bits}")
    if len(layer.scale) not in (1, shape[0]):
        raise UserError(f"expected 1 or {shape[0]} scales for {name}, found {len(layer.scale)}")
    _check_finite(f"the scales of {name}", layer.scale)


def _check_finite(name: str, numbers: NDArray[Any]) -> None:
    if np.issubdtype(numbers.dtype, np.floating) and not np.isfinite(numbers).all():
        raise UserError(f"expected finite numbers in {name}, found NaN or infinity")
