import dataclasses
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.codings import CODING_CHOICES, CODINGS, stream_bits
from emomc.compression.float16 import round_scales
from emomc.packed_file.layout import CHECKSUM, HEADER, LAYER, TENSOR, TYPES
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.reader import parse_packed, read_packed
from emomc.packed_file.records import layer_record_bytes, tensor_record_bytes
from emomc.packed_file.size import bytes_of_bias, bytes_of_scales, fixed_bytes, packed_size_bytes
from emomc.packed_file.writer import pack_bytes, write_packed

DESCRIPTION = NetworkDescription(
    network="lenet5",
    network_args={"width": 0.5},
    network_source_sha256=None,
    input_shape=(1, 32, 32),
    class_names=("null", "één", "二"),
    mean=(0.125,),
    std=(0.5,),
)
SHAPES = {"conv": (6, 1, 5, 5), "depthwise": (6, 1, 3, 3), "head.linear": (3, 54)}
HEADER_FIELDS = "magic version layers file_bytes tensors names metadata channels height width classes normalised"
LAYER_FIELDS = "name_bytes dimensions bits coding index_bits scales inputs entries bytes"
TENSOR_FIELDS = "name_bytes type dimensions"
TENSORS = {
    "conv.bias": np.linspace(-1, 1, 6, dtype=np.float32),
    "head.linear.bias": np.ones(3, np.float32),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "norm.flags": np.array([True, False, True]),
    "odd": np.arange(3, dtype=np.float16),
    "deep": np.arange(4, dtype=np.int8).reshape(1, 2, 1, 1, 2, 1),
}


def random_network(seed, bits, density, per_channel=False, grids=(None, None, None), half=False):
    rng = np.random.default_rng(seed)
    layers = []
    for (name, shape), width, grid in zip(SHAPES.items(), bits, grids, strict=True):
        if width == 32:
            weights = rng.normal(size=shape).astype(np.float32)
            layers.append(PackedLayer(name, 32, weights, np.zeros(0, np.float32), grid))
            continue
        largest = 2 ** (width - 1) - 1
        codes = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < density)
        scale = rng.normal(size=shape[0] if per_channel else 1).astype(np.float32)
        if half and per_channel:
            scale = round_scales(torch.from_numpy(scale)).numpy()
        codes = codes.astype(np.int8 if width <= 8 else np.int16)
        layers.append(PackedLayer(name, width, codes, scale, grid, half and per_channel))
    return PackedNetwork(DESCRIPTION, tuple(layers), dict(TENSORS))


def checked(body):
    return body + struct.pack("<I", zlib.crc32(body))


def assert_same(one, other):
    assert one.description == other.description
    assert list(one.tensors) == list(other.tensors)
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype
        np.testing.assert_array_equal(tensor, other.tensors[name])
    for layer, twin in zip(one.layers, other.layers, strict=True):
        assert (layer.name, layer.bits, layer.codes.dtype) == (twin.name, twin.bits, twin.codes.dtype)
        assert (layer.inputs, layer.half_scales) == (twin.inputs, twin.half_scales)
        np.testing.assert_array_equal(layer.codes, twin.codes)
        np.testing.assert_array_equal(layer.scale, twin.scale)


grids = st.none() | st.builds(
    ActivationGrid,
    st.integers(2, 15),
    st.booleans(),
    st.floats(0, exclude_min=True, allow_infinity=False, width=32),
)
networks = st.builds(
    random_network,
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.one_of(st.integers(2, 16), st.just(32))] * 3),
    st.one_of(st.just(0.0), st.floats(0, 1)),
    st.booleans(),
    st.tuples(grids, grids, grids),
    st.booleans(),
)


@given(networks, st.sampled_from(CODING_CHOICES))
@settings(max_examples=100, deadline=None)
def test_a_file_gives_back_what_was_packed_in_exactly_the_accounted_bytes(network, coding):
    data = pack_bytes(network, coding)
    assert_same(parse_packed(data), network)
    assert pack_bytes(parse_packed(data), coding) == data
    fixed = fixed_bytes(DESCRIPTION, {name: len(shape) for name, shape in SHAPES.items()}, TENSORS)
    bits = np.array([[stream_bits(layer.codes, layer.bits, coding) for layer in network.layers]])
    scales = [bytes_of_scales(len(layer.scale), half=layer.half_scales) for layer in network.layers]
    steps = [4 * (layer.inputs is not None) for layer in network.layers]
    assert packed_size_bytes(fixed, bits, scales, steps).tolist() == [len(data)]
    # The numbers of some tensors may be counted with the layers.
    without = fixed_bytes(DESCRIPTION, {name: len(shape) for name, shape in SHAPES.items()}, TENSORS, ["conv.bias"])
    assert without + bytes_of_bias(6, half=False) == fixed


def test_the_account_takes_a_population_at_once():
    bits = np.array([[7, 8, 33], [0, 64, 1]])
    np.testing.assert_array_equal(packed_size_bytes(1000, bits, np.array([4, 24, 0])), [1044, 1040])
    np.testing.assert_array_equal(packed_size_bytes(1000, bits, np.array([6, 22, 0]), [4, 0, 1]), [1045, 1049])


def test_a_written_file_has_the_returned_size_and_reads_back(tmp_path):
    network = random_network(0, (2, 32, 12), 0.3)
    path = tmp_path / "new folder" / "network.emomc"
    assert write_packed(path, network, "best") == path.stat().st_size
    assert_same(read_packed(path), network)
    assert [file.name for file in path.parent.iterdir()] == ["network.emomc"]


@given(networks, st.data())
@settings(max_examples=60, deadline=None)
def test_every_truncation_and_every_altered_byte_is_refused(network, data):
    whole = pack_bytes(network, data.draw(st.sampled_from(CODING_CHOICES)))
    with pytest.raises(UserError):
        parse_packed(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UserError):
        parse_packed(whole + b"\0")
    place, change = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(UserError):
        parse_packed(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])


@given(networks, st.sampled_from(CODING_CHOICES), st.data())
@settings(max_examples=200, deadline=None)
def test_a_hostile_file_with_a_right_checksum_is_refused_or_well_formed(network, coding, data):
    body = bytearray(pack_bytes(network, coding)[:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = parse_packed(checked(bytes(body)))
    except UserError:
        return
    # What can be packed again is within the format's ranges.
    assert_same(parse_packed(pack_bytes(read, "best")), read)


def _header(**changes):

    def change(body):
        values = dict(zip(HEADER_FIELDS.split(), HEADER.unpack_from(body), strict=True)) | changes
        return HEADER.pack(*values.values()) + body[HEADER.size :]

    return change


# Where the records begin, and after them the names.
LAYER_PLACES = np.cumsum([HEADER.size + 8, *(layer_record_bytes(len(shape)) for shape in SHAPES.values())]).tolist()
TENSOR_PLACES = np.cumsum([LAYER_PLACES[-1], *(tensor_record_bytes(one.ndim) for one in TENSORS.values())]).tolist()


def _field(kind, place, fields, field, value, more):

    def change(body):
        values = list(kind.unpack_from(body, place))
        index = fields.split().index(field)
        values[index] = values[index] + more if value is None else value
        return body[:place] + kind.pack(*values) + body[place + kind.size :]

    return change


def _record(layer, field, value):
    return _field(LAYER, LAYER_PLACES[layer], LAYER_FIELDS, field, value, 0)


def _tensor(tensor, field, value=None, more=0):
    return _field(TENSOR, TENSOR_PLACES[tensor], TENSOR_FIELDS, field, value, more)


def _side(place, side):
    return _field(struct.Struct("<I"), place, "side", "side", side, 0)


def _layer_side(layer, index, side):
    return _side(LAYER_PLACES[layer] + LAYER.size + 4 * index, side)


def _metadata(text):
    def change(body):
        header = list(HEADER.unpack_from(body))
        start = body.index(b'{"class_names"')
        grown = body[:start] + text + body[start + header[6] :]
        header[6] = len(text)
        header[3] = len(grown) + 4
        return HEADER.pack(*header) + grown[HEADER.size :]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_header(magic=b"PK\3\4abcd"), "do not begin like one"),
        (_header(version=6), "format version 1 to 5, found 6"),
        (_header(version=0), "format version 1 to 5, found 0"),
        (_header(file_bytes=2**63), "9223372036854775808 bytes"),
        (_header(layers=0), "1 to 65536 layers"),
        (_header(layers=2**32 - 1), "1 to 65536 layers"),
        (_header(layers=60_000), "known kind of layer|at most 6 dimensions|more bytes"),
        (_header(layers=2), "found"),
        (_header(tensors=2**31), "layers and tensors"),
        (_header(layers=65_536), "known kind of layer|at most 6 dimensions|more bytes"),
        (_header(tensors=65_536), "known kind of layer|at most 6 dimensions|more bytes"),
        (_header(tensors=65_537), "layers and tensors"),
        (_header(metadata=2**20), "more bytes"),
        (_tensor(5, "name_bytes", more=1), "names one after another"),
        (_tensor(5, "name_bytes", more=-1), "nothing after the last tensor"),
        (_tensor(0, "type", len(TYPES)), "known type of tensor"),
        (_tensor(0, "dimensions", 7), "at most 6 dimensions"),
        (_side(TENSOR_PLACES[0] + TENSOR.size, 0), "expected numbers"),
        (_side(TENSOR_PLACES[0] + TENSOR.size, 2**32 - 1), "more bytes"),
        (_header(channels=0), "sides of 1"),
        (_header(channels=65_536), "more bytes"),
        (_header(height=2**32 - 1), "sides of 1"),
        (_header(normalised=2), "sides of 1"),
        (_header(names=2**32 - 1), "more bytes"),
        (_header(metadata=2**32 - 1), "1048576 bytes of metadata"),
        (_header(classes=4), "names of 4 classes"),
        (_record(0, "name_bytes", 65_535), "names one after another"),
        (_record(1, "name_bytes", 0), "found"),
        (_record(0, "dimensions", 1), "known kind of layer"),
        (_record(0, "dimensions", 5), "known kind of layer"),
        (_record(0, "bits", 1), "2 to 16 bits"),
        (_record(0, "bits", 17), "2 to 16 bits"),
        (_record(0, "bits", 32), "expected a scale"),
        (_record(0, "coding", len(CODINGS)), "known coding of conv"),
        (_record(0, "inputs", 1), "2..15 bits of an activation, found 1"),
        (_record(0, "inputs", 16), "2..15 bits of an activation, found 16"),
        (_record(0, "inputs", 127), "2..15 bits of an activation, found 127"),
        (_record(0, "inputs", 128), "2..15 bits of an activation, found 0"),
        # What follows is no step, and then no record.
        (_record(0, "inputs", 8), "found"),
        (_record(0, "index_bits", 255), "index bits"),
        (_layer_side(0, 0, 0), "a number of weights from 1 to"),
        (_layer_side(0, 1, 2**32 - 1), "a number of weights from 1 to"),
        (_record(0, "scales", 0), "expected a scale for conv"),
        (_record(0, "scales", 4), "found kind 4"),
        (_record(0, "entries", 2**32 - 1), "entries of 150 weights"),
        (_record(0, "bytes", 2**32 - 1), "more bytes"),
        (_metadata(b"[" * 500_000), "metadata in JSON"),
        (_metadata(b"{}"), "metadata of a packed network with an entry network"),
        (
            _metadata(b'{"class_names":["a","b","c"],"network":"","network_args":{},"network_source_sha256":null}'),
            "name of",
        ),
        (
            _metadata(
                b'{"class_names":["a","b","c"],"network":"n","network_args":{"a":1e999},"network_source_sha256":null}'
            ),
            "metadata in JSON",
        ),
        (
            _metadata(
                b'{"class_names":["a","b","c"],"network":"n","network_args":{"a":NaN},"network_source_sha256":null}'
            ),
            "metadata in JSON",
        ),
        (
            _metadata(b'{"class_names":["a","b",3],"network":"n","network_args":{},"network_source_sha256":null}'),
            r"a text as class_names\[2\], found 3",
        ),
        (
            _metadata(b'{"class_names":["a","b","c"],"network":"n","network_args":{},"network_source_sha256":"../x"}'),
            "64 hex digits",
        ),
        (
            _metadata(
                b'{"class_names":["a","b","c"],"network":"n","network_args":{},"network_source_sha256":null,"more":1}'
            ),
            "the unknown entry 'more'",
        ),
    ],
)
def test_hostile_fields_are_refused_by_name(change, message):
    body = pack_bytes(random_network(0, (4, 4, 4), 0.3), "csr")[:-4]
    with pytest.raises(UserError, match=message):
        parse_packed(checked(change(body)))


@pytest.mark.parametrize(("size", "message"), [(HEADER.size, "found"), (HEADER.size + 3, "found"), (0, "do not begin")])
def test_a_file_without_room_for_its_checksum(size, message):
    header = _header(file_bytes=size)(pack_bytes(random_network(0, (4, 4, 4), 0.3), "csr"))[: HEADER.size]
    with pytest.raises(UserError, match=rf"expected a packed network.*{message}"):
        parse_packed((header + bytes(3))[:size])


def test_flags_are_0_or_1():
    data = pack_bytes(random_network(0, (4, 4, 4), 0.3), "csr")[:-4]
    place = data.rindex(b"\1\0\1\0")
    with pytest.raises(UserError, match=r"expected 0 and 1 in norm\.flags, found 2"):
        parse_packed(checked(data[:place] + b"\2" + data[place + 1 :]))


def test_a_file_of_a_header_alone():
    size = HEADER.size + CHECKSUM.size
    header = _header(file_bytes=size)(pack_bytes(random_network(0, (4, 4, 4), 0.3), "csr"))[: HEADER.size]
    with pytest.raises(UserError, match="more bytes"):
        parse_packed(checked(header))


def test_one_layer_and_no_tensor_are_enough():
    one = dataclasses.replace(random_network(0, (4, 4, 4), 0.3), tensors={})
    one = dataclasses.replace(one, layers=one.layers[:1])
    assert_same(parse_packed(pack_bytes(one, "csr")), one)


def test_names_that_a_terminal_would_obey_are_not_shown():
    body = pack_bytes(random_network(0, (4, 4, 4), 0.3), "csr")[:-4]
    with pytest.raises(UserError, match=r"^expected names that can be printed, found 'con\\n'$"):
        parse_packed(checked(body.replace(b"convdepth", b"con\ndepth")))


def test_names_are_in_utf_8():
    body = pack_bytes(random_network(0, (4, 4, 4), 0.3), "csr")[:-4]
    with pytest.raises(UserError, match=r"^expected names in UTF-8, found other bytes$"):
        parse_packed(checked(body.replace(b"convdepth", b"con\xffdepth")))


def test_an_all_zero_layer_may_not_claim_more_weights_than_allowed():
    network = random_network(0, (4, 4, 4), 0.0)
    data = pack_bytes(network, "csr")
    # 150 and 54 of them are taken by the layers before.
    with pytest.raises(UserError, match=r"a number of weights from 1 to 161 in head\.linear"):
        parse_packed(data, max_weights=365)
    assert_same(parse_packed(data, max_weights=366), network)
    with pytest.raises(UserError, match="a number of weights from 1 to"):
        parse_packed(checked(_layer_side(0, 1, 2**28)(data[:-4])))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(number):
    network = random_network(0, (4, 32, 4), 1.0)
    data = pack_bytes(network, "normal")[:-4]
    for good in (network.layers[0].scale[0], network.layers[1].codes[0, 0, 0, 0], TENSORS["conv.bias"][0]):
        place = data.index(struct.pack("<f", good))
        with pytest.raises(UserError, match="finite numbers"):
            parse_packed(checked(data[:place] + struct.pack("<f", number) + data[place + 4 :]))
    layer = dataclasses.replace(network.layers[0], scale=np.array([number], np.float32))
    with pytest.raises(UserError, match="finite numbers in the scales of conv"):
        pack_bytes(dataclasses.replace(network, layers=(layer, *network.layers[1:])), "normal")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.1, 0.2)}, "per channel"),
        ({"std": (0.0,)}, "positive standard deviations"),
        ({"class_names": (1,)}, "up to 1048576 classes"),
        ({"input_shape": (1, 2, 3, 4)}, "1 to 3 sides"),
        ({"network": "lenet5\n"}, "name of a network"),
        ({"input_shape": (1, 0, 32)}, "in 1..65536"),
        ({"network_args": {"layer": object()}}, "written as JSON"),
        ({"class_names": ("a" * 2**20,)}, "bytes of metadata"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes, message):
    network = random_network(0, (4, 4, 4), 1.0)
    with pytest.raises(UserError, match=message):
        pack_bytes(dataclasses.replace(network, description=dataclasses.replace(DESCRIPTION, **changes)), "normal")


def test_layers_and_tensors_that_do_not_fit_are_refused():
    network = random_network(0, (4, 4, 4), 1.0)

    def refused(message, tensors=TENSORS, **changes):
        layers = (dataclasses.replace(network.layers[0], **changes), *network.layers[1:])
        with pytest.raises(UserError, match=message):
            pack_bytes(PackedNetwork(DESCRIPTION, layers, tensors), "normal")

    refused("codes of 3 bits", bits=3)
    refused("2 to 16 or 32 bits", bits=24)
    refused("float32 weights without a scale", bits=32)
    refused("1 or 6 scales", scale=np.ones(2, np.float32))
    refused("1-D float32 scales", scale=np.ones(1))
    refused("unique names of layers and tensors", name="depthwise")
    refused("1 to 65535 bytes", name="")
    refused(r"can be printed, found 'conv\\x1b\[2J'", name="conv\x1b[2J")
    for step in (0.1, 1e300, 1e-300):
        refused("a float32 step of the inputs of conv", inputs=ActivationGrid(8, signed=False, step=step))
    refused("convolution or linear", codes=np.zeros(3, np.int8))
    refused("unique names of layers and tensors", {**TENSORS, "conv.weight": np.ones(1, np.float32)})
    refused("supported number type", {"odd": np.array(["text"])})
    refused("at most 6 dimensions", {"odd": np.ones((1,) * 7, np.float32)})


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_a_step_of_inputs_out_of_range_is_refused(step):
    grid = ActivationGrid(8, signed=True, step=0.1875)
    data = pack_bytes(random_network(0, (4, 4, 4), 0.3, grids=(None, grid, None)), "csr")[:-4]
    assert parse_packed(checked(data)).layers[1].inputs == grid
    with pytest.raises(UserError, match="a finite step of activations above 0"):
        parse_packed(checked(data.replace(struct.pack("<f", grid.step), struct.pack("<f", step))))


def test_a_network_without_a_known_normalisation_keeps_none():
    network = random_network(0, (4, 4, 4), 1.0)
    bare = dataclasses.replace(network, description=dataclasses.replace(DESCRIPTION, mean=(), std=()))
    data = pack_bytes(bare, "normal")
    assert len(data) == len(pack_bytes(network, "normal")) - 8
    assert_same(parse_packed(data), bare)


def test_reading_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.emomc, found no such file"):
        read_packed(tmp_path / "nothing.emomc")
    (tmp_path / "text.emomc").write_text("not a network")
    with pytest.raises(UserError, match=r"text\.emomc: expected a packed network, found 13 bytes"):
        read_packed(tmp_path / "text.emomc")
