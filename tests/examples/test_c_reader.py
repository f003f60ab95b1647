"""The reader in C, compiled and compared with torch: proof that the packed format is real on a device."""

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.codings import CODINGS
from emomc.compression.float16 import round_scales
from emomc.compression.layer_inputs import measure_inputs
from emomc.compression.quantization import quantize_symmetric
from emomc.export.loading import layer_weight, unpack_folded, unpack_network
from emomc.networks.build import build_network
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.writer import pack_bytes, write_packed

SOURCES = Path(__file__).parents[2] / "examples" / "c_reader"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc) on this machine")


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Compile the reader, with checks of memory accesses where the compiler has them."""
    folder = tmp_path_factory.mktemp("c_reader")
    for name in ("lenet5", "unpack"):
        command = [COMPILER, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-o", folder / name]
        command += [SOURCES / f"{name}.c", SOURCES / "emomc.c"]
        checked = [*command, "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-lm"]
        if subprocess.run(checked, capture_output=True).returncode:
            subprocess.run([*command, "-lm"], check=True)
    return folder


def lenet5(seed, bits, kept, grids=(None,) * 5, *, half=False):
    torch.manual_seed(seed)
    network = build_network("lenet5", in_channels=1, num_classes=10)
    layers, tensors = [], {}
    for index, (name, tensor) in enumerate(network.state_dict().items()):
        if name.endswith(".bias"):
            tensors[name] = torch.randn_like(tensor).to(torch.float16 if half else torch.float32).numpy()
            continue
        width, grid = bits[index // 2], grids[index // 2]
        weight = tensor * (torch.rand_like(tensor) < kept)
        layer = name.removesuffix(".weight")
        if width == 32:
            layers.append(PackedLayer(layer, 32, weight.numpy(), np.zeros(0, np.float32), grid))
        else:
            quantized = quantize_symmetric(weight, width, per_channel=index % 4 == 0)
            many = half and len(quantized.scale) > 1
            # As if a norm had been folded in: also below 0, and far below the largest.
            scale = round_scales(quantized.scale * torch.randn_like(quantized.scale) ** 7) if many else quantized.scale
            layers.append(PackedLayer(layer, width, quantized.codes.numpy(), scale.numpy(), grid, many))
    classes = tuple("0123456789")
    description = NetworkDescription("lenet5", {}, None, (1, 32, 32), classes, (0.1307,), (0.3081,))
    return PackedNetwork(description, tuple(layers), tensors)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_unpacks_to_the_very_weights(tools, coding, half, tmp_path):
    packed = lenet5(1, (2, 5, 11, 32, 8), 0.07, half=half)
    path = tmp_path / "network.emomc"
    write_packed(path, packed, coding)
    for layer in packed.layers:
        found = subprocess.run([tools / "unpack", path, layer.name], capture_output=True, check=True).stdout
        np.testing.assert_array_equal(np.frombuffer(found, np.float32), layer_weight(layer).flatten().numpy())


def test_the_list_of_contents_names_all(tools, tmp_path):
    path = tmp_path / "network.emomc"
    write_packed(path, lenet5(1, (2, 5, 11, 32, 8), 0.5), "best")
    lines = subprocess.run([tools / "unpack", path], capture_output=True, check=True, text=True).stdout.splitlines()
    assert '"network":"lenet5"' in lines[0]
    assert lines[3].startswith("conv3: 48000 weights, 11 bits, ")
    assert lines[6] == "conv1.bias: 6 numbers of type 0"


def test_the_list_of_contents_shows_the_grids_of_inputs(tools, tmp_path):
    path = tmp_path / "network.emomc"
    signed, unsigned = ActivationGrid(8, signed=True, step=0.1875), ActivationGrid(15, signed=False, step=2**-20)
    write_packed(path, lenet5(1, (2, 5, 11, 32, 8), 0.5, (signed, unsigned, None, unsigned, None)), "best")
    lines = subprocess.run([tools / "unpack", path], capture_output=True, check=True, text=True).stdout.splitlines()
    assert [line.partition("; ")[2] for line in lines[1:6]] == [
        "inputs of 8 bits with sign in steps of 0.1875",
        "inputs of 15 bits in steps of 9.53674316e-07",
        "",
        "inputs of 15 bits in steps of 9.53674316e-07",
        "",
    ]


def test_files_of_version_2_are_read(tools):
    old = Path(__file__).parents[1] / "emomc" / "packed_file" / "version_2" / "huffman.emomc"
    lines = subprocess.run([tools / "unpack", old], capture_output=True, check=True, text=True).stdout.splitlines()
    assert lines[3] == "head.linear: 162 weights, 9 bits, huffman, 53 bytes"


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("bits", "kept"), [((4, 4, 4, 4, 4), 0.3), ((12, 32, 3, 6, 2), 1.0)])
def test_lenet5_in_c_classifies_as_torch_does(tools, bits, kept, half, tmp_path):
    packed = lenet5(2, bits, kept, half=half)
    write_packed(tmp_path / "network.emomc", packed, "best")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 32, 32), np.uint8)
    (tmp_path / "images.raw").write_bytes(images.tobytes())
    command = [tools / "lenet5", tmp_path / "network.emomc", tmp_path / "images.raw"]
    rows = [line.split() for line in subprocess.run(command, capture_output=True, check=True).stdout.splitlines()]
    found = torch.tensor([[float(number) for number in row[1:]] for row in rows])
    expected = unpack_network(packed)(((torch.from_numpy(images) / 255) - 0.1307) / 0.3081)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [int(row[0]) for row in rows] == expected.argmax(1).tolist()


@pytest.mark.parametrize("width", [2, 4, 8, 15])
def test_lenet5_in_c_rounds_inputs_as_torch_does(tools, width, tmp_path):
    plain = lenet5(3, (8, 4, 4, 6, 8), 0.5)
    images = np.random.default_rng(0).integers(0, 256, (100, 1, 32, 32), np.uint8)
    normalised = ((torch.from_numpy(images) / 255) - 0.1307) / 0.3081
    inputs = measure_inputs(unpack_folded(plain), [normalised])
    grids = [ActivationGrid.of_range(width, *inputs[layer.name].range) for layer in plain.layers]
    assert {grid.signed for grid in grids} == {True, False}
    packed = lenet5(3, (8, 4, 4, 6, 8), 0.5, grids)
    write_packed(tmp_path / "network.emomc", packed, "best")
    (tmp_path / "images.raw").write_bytes(images.tobytes())
    command = [tools / "lenet5", tmp_path / "network.emomc", tmp_path / "images.raw"]
    rows = [line.split() for line in subprocess.run(command, capture_output=True, check=True).stdout.splitlines()]
    found = torch.tensor([[float(number) for number in row[1:]] for row in rows])
    expected = unpack_network(packed)(normalised)
    assert not torch.equal(expected, unpack_network(plain)(normalised))
    # An input half-way between two codes may go either way, which moves the scores of that image.
    close = torch.isclose(found, expected, rtol=1e-4, atol=1e-4).all(1)
    assert int(close.sum()) >= 80
    assert int((found.argmax(1) == expected.argmax(1)).sum()) >= 99


def test_damaged_and_hostile_files_are_refused_without_a_crash(tools, tmp_path):
    path = tmp_path / "network.emomc"
    rng = np.random.default_rng(0)
    ends = []
    for turn in range(120):
        data = bytearray(pack_bytes(lenet5(1, (2, 3, 2, 4, 2), 0.02), [*CODINGS][turn % len(CODINGS)]))
        for _ in range(int(rng.integers(1, 4))):
            # Half of the changes hit the header and the records.
            place = int(rng.integers(0, 700 if rng.random() < 0.5 else len(data)))
            data[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(0, 256)]))
        if turn % 2:
            data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
        path.write_bytes(data)
        ended = subprocess.run([tools / "unpack", path, "conv3"], capture_output=True, timeout=60)
        assert ended.returncode in (0, 2), ended.stderr.decode()
        ends.append(ended.returncode)
    assert {0, 2} <= set(ends)
    for content in (b"", b"EMOMC\r\n\x1a", bytes(1000)):
        path.write_bytes(content)
        ended = subprocess.run([tools / "unpack", path], capture_output=True, text=True)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


def test_the_makefile_builds(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    copy = shutil.copytree(SOURCES, tmp_path / "c_reader", ignore=shutil.ignore_patterns("lenet5", "unpack"))
    subprocess.run(["make", "-s"], cwd=copy, check=True)
    assert (copy / "lenet5").is_file()
    assert (copy / "unpack").is_file()
