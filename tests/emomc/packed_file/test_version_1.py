"""Files of version 1, written by the program of that time, are still read; new ones are of the version of today."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from emomc.common.errors import UserError
from emomc.packed_file.layout import HEADER, LAYER_1, TENSOR_1, TYPES
from emomc.packed_file.reader import parse_packed, read_packed
from emomc.packed_file.writer import pack_bytes

FILES = Path(__file__).parent / "version_1"
LAYERS = 3
HEADER_FIELDS = "magic version layers file_bytes tensors names metadata channels height width classes normalised"
LAYER_FIELDS = (
    "name_offset name_bytes dimensions bits coding index_bits reserved s0 s1 s2 s3 scales entries bytes offset"
)
TENSOR_FIELDS = "name_offset name_bytes type dimensions s0 s1 s2 s3 s4 s5 offset"


@pytest.mark.parametrize("coding", ["normal", "csr", "coo", "bitmap"])
def test_all_files_hold_the_same_network(coding):
    read, other = read_packed(FILES / f"{coding}.emomc"), read_packed(FILES / "normal.emomc")
    assert read.description == other.description
    assert [(layer.name, layer.bits) for layer in read.layers] == [("conv", 3), ("depthwise", 32), ("head.linear", 9)]
    for layer, twin in zip(read.layers, other.layers, strict=True):
        np.testing.assert_array_equal(layer.codes, twin.codes)
        np.testing.assert_array_equal(layer.scale, twin.scale)
    assert read.tensors["norm.num_batches_tracked"] == 7
    assert read.tensors["deep"].shape == (1, 2, 1, 1, 2, 1)
    np.testing.assert_array_equal(read.tensors["conv.bias"], np.linspace(-1, 1, 6, dtype=np.float32))
    # What was read can be written in today's version, which is shorter.
    again = pack_bytes(read, coding)
    assert len(again) < (FILES / f"{coding}.emomc").stat().st_size
    np.testing.assert_array_equal(parse_packed(again).layers[2].codes, read.layers[2].codes)


def _header(**changes):

    def change(body):
        values = dict(zip(HEADER_FIELDS.split(), HEADER.unpack_from(body), strict=True)) | changes
        return HEADER.pack(*values.values()) + body[HEADER.size :]

    return change


def _record(layer, field, value):

    def change(body):
        place = HEADER.size + 8 + layer * LAYER_1.size
        values = list(LAYER_1.unpack_from(body, place))
        values[LAYER_FIELDS.split().index(field)] = value
        return body[:place] + LAYER_1.pack(*values) + body[place + LAYER_1.size :]

    return change


def _tensor(tensor, field, value=None, more=0):

    def change(body):
        place = HEADER.size + 8 + LAYERS * LAYER_1.size + tensor * TENSOR_1.size
        values = list(TENSOR_1.unpack_from(body, place))
        index = TENSOR_FIELDS.split().index(field)
        values[index] = values[index] + more if value is None else value
        return body[:place] + TENSOR_1.pack(*values) + body[place + TENSOR_1.size :]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_header(version=6), "format version 1 to 5, found 6"),
        (_header(layers=60_000), "known kind of layer|at most 6 dimensions|more bytes"),
        (_tensor(5, "name_bytes", more=1), "names one after another"),
        (_tensor(5, "name_bytes", more=-1), "nothing after the last tensor"),
        (_tensor(0, "name_offset", more=-1), "names one after another"),
        (_tensor(0, "type", len(TYPES)), "known type of tensor"),
        (_tensor(0, "dimensions", 7), "at most 6 dimensions"),
        (_tensor(0, "dimensions", 0), "0 sizes"),
        (_tensor(0, "s0", 0), "expected numbers"),
        (_tensor(0, "s0", 2**32 - 1), "more bytes"),
        (_tensor(0, "s5", 1), "1 sizes"),
        (_tensor(0, "offset", more=4), "at byte"),
        (_record(0, "name_offset", 1), "names one after another"),
        (_record(0, "name_bytes", 65_535), "names one after another"),
        (_record(0, "dimensions", 3), "3 sizes"),
        (_record(0, "dimensions", 5), "known kind of layer"),
        (_record(0, "bits", 17), "2 to 16 bits"),
        (_record(0, "coding", 4), "coding of version 1, found 4"),
        (_record(0, "reserved", 1), "known kind of layer"),
        (_record(0, "index_bits", 255), "index bits"),
        (_record(0, "s0", 0), "a number of weights from 1 to"),
        (_record(2, "s2", 1), "2 sizes"),
        (_record(0, "scales", 2**32 - 1), "expected a scale"),
        (_record(0, "entries", 2**32 - 1), "entries of 150 weights"),
        (_record(0, "bytes", 2**32 - 1), "more bytes"),
        (_record(0, "offset", 2**64 - 1), "at byte"),
    ],
)
def test_hostile_fields_are_refused_by_name(change, message):
    body = change((FILES / "csr.emomc").read_bytes()[:-4])
    with pytest.raises(UserError, match=message):
        parse_packed(body + struct.pack("<I", zlib.crc32(body)))
