"""Version 3 is version 4 without scales in float16."""

import struct
import zlib

import numpy as np
import pytest

from emomc.common.errors import UserError
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.reader import parse_packed
from emomc.packed_file.writer import pack_bytes


def version_3(*, half):
    description = NetworkDescription("tiny.py:Tiny", {}, None, (1, 2, 3), ("a", "b"))
    codes = np.array([[0, 3, 0, 0, 0, 0], [0, -1, 2, 0, 0, 0]], np.int8)
    layer = PackedLayer("fc", 3, codes, np.array([0.5, 0.25], np.float32), half_scales=half)
    body = bytearray(pack_bytes(PackedNetwork(description, (layer,), {}), "csr")[:-4])
    body[8:12] = struct.pack("<I", 3)
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


def test_files_are_read():
    (layer,) = parse_packed(version_3(half=False)).layers
    np.testing.assert_array_equal(layer.scale, [0.5, 0.25])


def test_scales_cannot_be_in_float16():
    with pytest.raises(UserError, match="expected no scale, one or one per output channel of a layer, found kind 3"):
        parse_packed(version_3(half=True))
