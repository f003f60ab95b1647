"""Write packed files, whose size is that of the exact accounting."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from emomc.common.files import atomic_write
from emomc.compression.codings import encode
from emomc.compression.streams import Stream
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.packed_file.layout import (
    CHECKSUM,
    CODING_NAMES,
    HEADER,
    LAYER,
    MAGIC,
    MAX_TENSOR_DIMENSIONS,
    TENSOR,
    TYPES,
    VERSION,
    padded,
)
from emomc.packed_file.network import PackedLayer, PackedNetwork, check_packed, metadata_of
from emomc.packed_file.size import bytes_before_data


def write_packed(path: Path, packed: PackedNetwork, coding: str) -> int:
    """Write a packed file, completely or not at all.

    Args:
        path: the file to make or replace.
        packed: the network.
        coding: normal, csr, coo, bitmap, or best (the shortest for each layer).

    Returns:
        Its size, bytes.

    Raises:
        UserError: as ``pack_bytes``.
    """
    data = pack_bytes(packed, coding)
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return len(data)


def pack_bytes(packed: PackedNetwork, coding: str) -> bytes:
    """Return the content of a packed file; the same bytes for the same network.

    Args:
        packed: the network.
        coding: normal, csr, coo, bitmap, or best (the shortest for each layer).

    Raises:
        UserError: the network does not fit the format: see ``check_packed``.
    """
    check_packed(packed)
    description, layers, tensors = packed.description, packed.layers, packed.tensors
    layer_names, tensor_names = [layer.name for layer in layers], list(tensors)
    metadata = metadata_of(description)
    texts = [name.encode() for name in (*layer_names, *tensor_names)]
    name_offsets = np.cumsum([0, *map(len, texts)]).tolist()
    offset = bytes_before_data(description, layer_names, tensor_names)

    records, blobs = [], []
    for index, layer in enumerate(layers):
        stream = _encoded(layer, coding)
        shape = (*layer.codes.shape, 0, 0, 0, 0)[:4]
        numbers = (layer.codes.ndim, layer.bits, CODING_NAMES.index(stream.coding), stream.index_bits, 0, *shape)
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


def _encoded(layer: PackedLayer, coding: str) -> Stream:
    if layer.bits == UNCOMPRESSED_BITS:
        return Stream(layer.codes.astype("<f4").tobytes(), "normal", layer.codes.size)
    return encode(layer.codes, layer.bits, coding)
