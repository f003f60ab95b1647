"""The layout of a packed file, shared by its writer and its reader; ``docs/format.md`` describes every byte."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from emomc.compression.codings import CODINGS

MAGIC = b"EMOMC\r\n\x1a"
VERSION = 4
"""Of the files that are written, but for those below."""
PATTERN_VERSION = 5
"""Of those that need it: a layer has one of the codings for patterns, or channels are gone."""
READ_VERSIONS = (1, 2, 3, 4, 5)
ALIGNMENT = 4
MAX_METADATA_BYTES = 1 << 20
MAX_RECORDS = 1 << 16
"""Largest number of layers and of tensors."""
MAX_CLASSES = 1 << 20
MAX_SIDE = 1 << 16
"""Largest number of channels, height and width of an image."""
MAX_NAME_BYTES = (1 << 16) - 1
LAYER_DIMENSIONS = (2, 3, 4)
MAX_TENSOR_DIMENSIONS = 6

# All little-endian and without padding.
# Magic, version, layers, file bytes, tensors, name bytes, metadata bytes, channels, height, width, classes, normalised.
HEADER = struct.Struct("<8sIIQIIIIIIII")
# A layer: name bytes, dimensions, bits, coding, index bits, kind of scales, bits of inputs, entries, stream bytes; then
# the shape, and the step of the inputs if they have bits.
LAYER = struct.Struct("<HBBBBBBII")
STEP = struct.Struct("<f")
SCALE_BYTES, HALF_BYTES = 4, 2
"""Bytes of a scale, a step or a number of a bias in float32, and of a scale or a number of a bias in float16."""
SIGNED_INPUTS = 0x80
"""Is added to the bits of a layer's inputs if their codes are signed."""
# A tensor: name bytes, type, dimensions; then the shape.
TENSOR = struct.Struct("<HBB")
SIDE_BYTES = 4
"""Bytes of one side of a shape."""
# Version 1. A layer: name offset and bytes; dimensions, bits, coding, index bits, 0, shape (4), scales, entries, stream
# bytes, data offset. A tensor: name offset and bytes; type, dimensions, shape (6), data offset.
LAYER_1 = struct.Struct("<IHBBBBH4IIIIQ")
TENSOR_1 = struct.Struct("<IHBB6IQ")
CODINGS_1 = 4
"""Codings of version 1, the first of ``CODINGS``."""
CHECKSUM = struct.Struct("<I")

CODINGS_4 = 5
"""Codings of versions 2 to 4, likewise."""

CODING_NAMES = tuple(CODINGS)
"""A layer's coding is stored as its index in this tuple."""
NO_SCALE, ONE_SCALE, CHANNEL_SCALES, HALF_SCALES = 0, 1, 2, 3
"""Kinds of scales: none (float32 weights), one for the layer, one per output channel, and those in float16."""
SHARED_EXPONENT = struct.Struct("<h")
"""Before the float16 scales of a layer: the power of two by which all are multiplied."""
TYPES = tuple(np.dtype(name) for name in ("<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "i1", "u1", "?"))
"""A tensor's type is stored as its index in this tuple."""


def aligned(size: Any) -> Any:
    """Return ``size`` bytes, a number or an array, rounded up to the alignment."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def padded(data: bytes) -> bytes:
    """Return ``data`` padded with zeros to the alignment."""
    return data + bytes(-len(data) % ALIGNMENT)


def metadata_bytes(values: dict[str, Any]) -> bytes:
    """Return the metadata as JSON, the same bytes for the same values.

    Raises:
        ValueError: a value cannot be written as JSON.
    """
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
