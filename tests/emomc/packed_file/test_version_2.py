"""Files of version 2, written by the program of that time, are still read; they say nothing of the layers' inputs."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from emomc.common.errors import UserError
from emomc.packed_file.layout import HEADER
from emomc.packed_file.reader import parse_packed, read_packed
from emomc.packed_file.writer import pack_bytes

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("coding", ["normal", "csr", "coo", "bitmap", "huffman"])
def test_all_files_hold_the_network_of_version_1(coding):
    read, other = read_packed(FOLDER / "version_2" / f"{coding}.emomc"), read_packed(FOLDER / "version_1/normal.emomc")
    assert read.description == other.description
    for layer, twin in zip(read.layers, other.layers, strict=True):
        assert (layer.name, layer.bits, layer.inputs) == (twin.name, twin.bits, None)
        np.testing.assert_array_equal(layer.codes, twin.codes)
        np.testing.assert_array_equal(layer.scale, twin.scale)
    assert read.tensors.keys() == other.tensors.keys()
    for name, tensor in read.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name])


@pytest.mark.parametrize("coding", ["normal", "csr", "coo", "bitmap", "huffman"])
def test_without_grids_only_the_version_and_the_checksum_changed(coding):
    old = (FOLDER / "version_2" / f"{coding}.emomc").read_bytes()
    new = pack_bytes(parse_packed(old), coding)
    assert new[8:12] == struct.pack("<I", 4)
    assert old[:8] + old[12:-4] == new[:8] + new[12:-4]


def test_inputs_cannot_have_a_grid():
    body = bytearray((FOLDER / "version_2" / "csr.emomc").read_bytes()[:-4])
    body[HEADER.size + 8 + 7] = 8
    with pytest.raises(UserError, match="expected a known kind of layer, found 4 dimensions and 8 where 0 must be"):
        parse_packed(bytes(body) + struct.pack("<I", zlib.crc32(body)))
