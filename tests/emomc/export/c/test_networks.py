"""Whole networks in C, under the sanitizers, classify as in Python, in the memory that the header says."""

import shutil
import subprocess

import numpy as np
import pytest
import torch
from torchvision import models

from emomc.export.c.compiling import CompiledSource
from emomc.export.c.kernel_library import DECODER_TABLE_BYTES
from emomc.export.c.writing import header_of, write_c
from emomc.export.loading import unpack_network
from emomc.networks.build import build_network

ZOO = {"lenet5": (1, {}), "mobilenet": (3, {"width": 0.125}), "resnet18": (3, {"width": 0.125})}
TORCHVISION = {"mobilenet_v2": {"width_mult": 0.5}, "squeezenet1_1": {}, "shufflenet_v2_x0_5": {}}


def check(found, expected, rounded):
    if not rounded:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # An input half-way between two codes may go either way.
    assert float((found - expected).abs().amax(1).median() / expected.abs().max()) < 1e-4
    assert int((found.argmax(1) != expected.argmax(1)).sum()) <= (1 if rounded else 0)


@pytest.mark.parametrize(
    ("name", "activation_bits"),
    [
        ("lenet5", 8),
        pytest.param("lenet5", None, marks=pytest.mark.slow),
        *(pytest.param(name, bits, marks=pytest.mark.slow) for name in ZOO if name != "lenet5" for bits in (None, 8)),
    ],
)
def test_networks_of_the_zoo(name, activation_bits, pack, run_both):
    torch.manual_seed(0)
    channels, network_args = ZOO[name]
    network = build_network(name, in_channels=channels, num_classes=10, network_args=network_args)
    packed = pack(network, (channels, 32, 32), activation_bits=activation_bits, spec=name, network_args=network_args)
    check(*run_both(packed, count=20), activation_bits is not None)


@pytest.mark.slow
@pytest.mark.parametrize("activation_bits", [None, 8])
@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name, activation_bits, pack, run_both):
    torch.manual_seed(0)
    network = getattr(models, name)(num_classes=10, **TORCHVISION[name])
    packed = pack(network, (3, 64, 64), activation_bits=activation_bits)
    check(*run_both(packed, network, count=20), activation_bits is not None)


@pytest.fixture(scope="module")
def lenet5(pack, tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    torch.manual_seed(0)
    packed = pack(build_network("lenet5", in_channels=1, num_classes=10), (1, 32, 32), spec="lenet5")
    source = tmp_path_factory.mktemp("lenet5") / "digits.c"
    write_c(source, packed, name="digits", coding="best")
    return packed, source


def test_pixels_are_normalised(lenet5):
    packed, source = lenet5
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 1, 32, 32), np.uint8))
    with CompiledSource(source) as compiled:
        found = compiled.classes(pixels)
    assert found.tolist() == unpack_network(packed)((pixels / 255 - 0.5) / 0.25).argmax(1).tolist()


def test_the_header_says_what_memory_is_used(lenet5, tmp_path):
    _, source = lenet5
    header = header_of(source)
    ram, flash = (
        int(next(line for line in header.splitlines() if f"{kind}_BYTES =" in line).split("=")[1].strip(" ,"))
        for kind in ("RAM", "FLASH")
    )
    assert f"RAM: {ram:,} bytes" in header
    assert f"Flash: {flash:,} bytes" in header
    # The outputs of the first convolution, and of the pooling behind it.
    assert ram == 4 * (6 * 28 * 28 + 6 * 14 * 14) + DECODER_TABLE_BYTES
    if shutil.which("size") is None:
        pytest.skip("no program 'size' on this machine")
    compiled = tmp_path / "digits.o"
    subprocess.run(["cc", "-std=c99", "-Os", "-c", "-fstack-usage", "-o", compiled, source], check=True)
    text, data, bss, *_ = (
        subprocess.run(["size", compiled], capture_output=True, text=True).stdout.split("\n")[1].split()
    )
    assert int(bss) == ram
    assert flash * 0.95 < int(text) + int(data) < flash + 8192
    stack = [int(line.split("\t")[1]) for line in (tmp_path / "digits.su").read_text().splitlines()]
    assert sum(stack) < 2048


def test_a_header_is_enough_to_call_it(lenet5, tmp_path):
    _, source = lenet5
    (tmp_path / "digits.h").write_text(header_of(source))
    (tmp_path / "main.c").write_text(
        '#include "digits.h"\n#include <stdio.h>\n'
        "int main(void) {\n"
        "    static unsigned char pixels[DIGITS_CHANNELS * DIGITS_HEIGHT * DIGITS_WIDTH];\n"
        '    printf("%d %d\\n", digits_classify(pixels), DIGITS_CLASSES);\n'
        "    return 0;\n}\n"
    )
    program = tmp_path / "program"
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", program, tmp_path / "main.c", source, "-lm"]
    subprocess.run(command, check=True)
    found = subprocess.run([program], capture_output=True, check=True, text=True).stdout.split()
    assert 0 <= int(found[0]) < 10 == int(found[1])


def test_the_same_network_gives_the_same_source(lenet5, tmp_path):
    packed, source = lenet5
    write_c(tmp_path / "again.c", packed, name="digits", coding="best")
    assert (tmp_path / "again.c").read_text() == source.read_text()
