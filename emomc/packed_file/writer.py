"""Write packed files, whose size is that of the exact accounting."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from emomc.common.files import atomic_write
from emomc.compression.codings import encode
from emomc.compression.float16 import split_scales
from emomc.compression.streams import Stream
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.packed_file.layout import (
    CHECKSUM,
    CODING_NAMES,
    CODINGS_4,
    HEADER,
    MAGIC,
    PATTERN_VERSION,
    SHARED_EXPONENT,
    TYPES,
    VERSION,
    padded,
)
from emomc.packed_file.network import PackedLayer, PackedNetwork, check_packed, metadata_of
from emomc.packed_file.records import LayerRecord, TensorRecord, pack_layer_record, pack_tensor_record


def write_packed(path: Path, packed: PackedNetwork, coding: str) -> int:
    """Write a packed file, completely or not at all.

    Args:
        path: the file to make or replace.
        packed: the network.
        coding: one of ``CODING_CHOICES``; best: the shortest for each layer.

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
        coding: one of ``CODING_CHOICES``; best: the shortest for each layer.

    Raises:
        UserError: the network does not fit the format: see ``check_packed``.
    """
    check_packed(packed)
    description, layers, tensors = packed.description, packed.layers, packed.tensors
    metadata = metadata_of(description)
    texts = [name.encode() for name in (*[layer.name for layer in layers], *tensors)]

    records, numbers = [], []
    streams = [encode_layer(layer, coding) for layer in layers]
    patterned = bool(description.kept_channels) or any(
        CODING_NAMES.index(stream.coding) >= CODINGS_4 for stream in streams
    )
    for layer, text, stream in zip(layers, texts, streams, strict=False):
        record = LayerRecord(
            name_bytes=len(text),
            shape=layer.codes.shape,
            bits=layer.bits,
            coding=CODING_NAMES.index(stream.coding),
            index_bits=stream.index_bits,
            scales=len(layer.scale),
            entries=stream.entries,
            stream_bytes=len(stream.data),
            inputs=layer.inputs,
            half_scales=layer.half_scales,
        )
        records.append(pack_layer_record(record))
        numbers.append(padded(_scale_bytes(layer) + stream.data))
    for tensor, text in zip(tensors.values(), texts[len(layers) :], strict=True):
        little = tensor.astype(tensor.dtype.newbyteorder("<"))
        records.append(pack_tensor_record(TensorRecord(len(text), tensor.shape, TYPES.index(little.dtype))))
        numbers.append(padded(little.tobytes()))

    normalisation = np.array([*description.mean, *description.std], "<f4").tobytes()
    parts = [normalisation, *records, *texts, metadata]
    before = padded(bytes(HEADER.size) + b"".join(parts))[HEADER.size :]
    file_bytes = HEADER.size + len(before) + sum(map(len, numbers)) + CHECKSUM.size
    header = HEADER.pack(
        *(MAGIC, PATTERN_VERSION if patterned else VERSION, len(layers), file_bytes),
        *(len(tensors), sum(map(len, texts)), len(metadata)),
        *(*description.sides, len(description.class_names), int(bool(description.mean))),
    )
    body = b"".join([header, before, *numbers])
    return body + CHECKSUM.pack(zlib.crc32(body))


def _scale_bytes(layer: PackedLayer) -> bytes:
    if not layer.half_scales:
        return layer.scale.astype("<f4").tobytes()
    exponent, halves = split_scales(layer.scale)
    return SHARED_EXPONENT.pack(exponent) + halves.astype("<f2").tobytes()


def encode_layer(layer: PackedLayer, coding: str) -> Stream:
    """Return the stream of a layer in a coding; float32 weights as they are."""
    if layer.bits == UNCOMPRESSED_BITS:
        return Stream(layer.codes.astype("<f4").tobytes(), "normal", layer.codes.size)
    return encode(layer.codes, layer.bits, coding)
