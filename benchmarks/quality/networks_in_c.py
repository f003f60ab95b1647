"""Write networks in C, in floats and in integers, and compare classes and memory with Python and with the header.

    python -m benchmarks.quality.networks_in_c --output docs/results/networks_in_c.md

Weights are random, of 8, 4 and 6 bits in turn, the inputs of layers of 8 bits, images are noise of 3 x 32 x 32 values
(LeNet-5: 1 x 32 x 32). "RAM" is what the header says; it must be the size of the static data of the object file. Python
computes what a search evaluates: in float32, with the inputs of layers rounded.
"""

from __future__ import annotations

import dataclasses
import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor, nn
from torchvision import models

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.activations import integer_bias
from emomc.compression.layer_inputs import measure_inputs
from emomc.compression.quantization import quantize_symmetric
from emomc.export.c.arithmetic import Arithmetic
from emomc.export.c.compiling import CompiledSource
from emomc.export.c.toolchain import COMPILER
from emomc.export.c.writing import header_of, write_c
from emomc.export.loading import unpack_network
from emomc.networks.build import build_network
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork

WIDTHS = (8, 4, 6)
ACTIVATION_BITS = 8
PARTS = 5
"""In which the images are timed."""
ZOO = {"lenet5": {}, "mobilenet": {"width": 0.25}, "resnet18": {"width": 0.25}}
"""Network of the zoo -> its arguments."""
TORCHVISION = ("mobilenet_v2", "squeezenet1_1")
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def packed_network(network: nn.Module, shape: tuple[int, int, int]) -> PackedNetwork:
    """Quantize a network and the inputs of its layers, whose ranges are measured on noise."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, *shape, generator=noise))
    trace = trace_network(network.eval(), shape)
    folded = FoldedNetwork(trace)
    state = folded.fold(network.state_dict())
    folded.load(state)
    inputs = measure_inputs(folded, [torch.randn(16, *shape, generator=noise)])
    layers, rest = [], {name: tensor.detach() for name, tensor in state.rest.items()}
    for index, layer in enumerate(folded.layers):
        bits = WIDTHS[index % len(WIDTHS)]
        quantized = quantize_symmetric(state.weights[layer.name], bits, per_channel=True)
        scale = state.scale(layer.name, quantized.scale)
        grid = ActivationGrid.of_range(ACTIVATION_BITS, *inputs[layer.name].range)
        if layer.name in folded.bias_keys:
            key = folded.bias_keys[layer.name]
            rest[key] = integer_bias(rest[key], scale, grid)
        layers.append(PackedLayer(layer.name, bits, quantized.codes.numpy(), scale.detach().numpy(), grid))
    description = NetworkDescription("own.py:Network", {}, None, shape, tuple(map(str, range(10))))
    return PackedNetwork(description, tuple(layers), {name: tensor.numpy() for name, tensor in rest.items()})


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one arithmetic gives for one network."""

    ram_bytes: int
    flash_bytes: int
    deviation: float
    """Of the median image, as a fraction of the largest score."""
    others: int
    """Images of another class than in Python."""
    ms_per_image: float


def measure(packed: PackedNetwork, network: nn.Module, noise: Tensor, expected: Tensor, source: Path) -> Measured:
    """Measure a network in the arithmetic that the name of its source ends with.

    Raises:
        RuntimeError: the memory is not what the header says, or the program under the sanitizers gives other scores.
    """
    name, arithmetic = source.stem.rsplit("_", 1)
    write_c(source, packed, network, name=name, coding="best", arithmetic=cast(Arithmetic, arithmetic))
    ram, flash = (int(number) for number in re.findall(r"_(?:RAM|FLASH)_BYTES = (\d+)", header_of(source)))
    if (found := static_bytes(source)) != ram:
        raise RuntimeError(f"{source.stem}: expected {ram} bytes of static data, found {found}")
    scores, times = [], []
    with CompiledSource(source) as compiled:
        for part in noise.split(max(1, len(noise) // PARTS)):
            started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            scores.append(compiled.scores(part))
            times.append((resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - started) / len(part))
    given = torch.cat(scores)
    few = noise[: max(1, len(noise) // 20)]
    with CompiledSource(source, SANITIZERS) as compiled:
        checked = compiled.scores(few)
    if deviation(checked, given[: len(few)]).median() > 1e-5:
        raise RuntimeError(f"{source.stem}: other scores under the sanitizers")
    others = int((given.argmax(1) != expected.argmax(1)).sum())
    return Measured(ram, flash, float(deviation(given, expected).median()), others, 1000 * min(times))


def row(name: str, images: int, folder: Path) -> list[str]:
    """Return the line of the table for one network."""
    torch.manual_seed(0)
    shape = (1 if name == "lenet5" else 3, 32, 32)
    if name in ZOO:
        network = build_network(name, in_channels=shape[0], num_classes=10, network_args=ZOO[name])
    else:
        network = getattr(models, name)(num_classes=10)
    packed = packed_network(network, shape)
    noise = torch.randn(images, *shape, generator=torch.Generator().manual_seed(2))
    searched = unpack_network(packed, network)
    with torch.no_grad():
        expected = torch.cat([searched(part) for part in noise.split(100)])
    float_, int8 = (
        measure(packed, network, noise, expected, folder / f"{name}_{one}.c") for one in get_args(Arithmetic)
    )
    return [
        name,
        f"{sum(layer.codes.size for layer in packed.layers):,}",
        f"{float_.ram_bytes:,}",
        f"{int8.ram_bytes:,} ({float_.ram_bytes / int8.ram_bytes:.1f}x less)",
        f"{float_.flash_bytes:,}",
        f"{int8.flash_bytes:,}",
        f"{float_.deviation:.0e}",
        f"{int8.deviation:.0e}",
        f"{float_.others} of {images:,}",
        f"{int8.others} of {images:,}",
        f"{float_.ms_per_image:.2f}",
        f"{int8.ms_per_image:.2f}",
    ]


def deviation(scores: Tensor, expected: Tensor) -> Tensor:
    """Return each image's largest difference of scores, as a fraction of the largest score."""
    return (scores - expected).abs().amax(1) / expected.abs().max()


def static_bytes(source: Path) -> int:
    """Return the bytes of static data that a source needs besides its constants."""
    compiled = source.with_suffix(".o")
    subprocess.run([COMPILER, "-std=c99", "-Os", "-c", "-o", compiled, source], check=True)
    sizes = subprocess.run(["size", compiled], capture_output=True, text=True, check=True).stdout
    return int(sizes.splitlines()[1].split()[2])


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="images for each network, at least 1")
    parser.add_argument("--output", type=Path, default=None, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    for program in (COMPILER, "size"):
        if shutil.which(program) is None:
            raise UserError(f"expected a C compiler ({COMPILER}) and size, found no {program}")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(name, arguments.images, Path(folder)) for name in (*ZOO, *TORCHVISION)]
    head = ["network", "weights"]
    for what in ("RAM, bytes", "flash, bytes", "median deviation", "images of another class", "ms/image"):
        head += [f"{what}: {arithmetic}" for arithmetic in get_args(Arithmetic)]
    page = f"""# Networks in C

{made_by()} ({machine()}). Random weights of 8, 4 and 6 bits in turn, inputs of layers of {ACTIVATION_BITS} bits, images
of noise of 32 x 32 pixels; MobileNet and ResNet-18 of a quarter of their width. Compiled
with `-O2` by `{COMPILER}`; every source also ran clean under the address and undefined-behaviour sanitizers, on a
twentieth of the images, and its static data has exactly the bytes of RAM in its header.

`float` and `int8` are the two of `--c_arithmetic`. "Median deviation" is the median image's largest difference of a
score from that in Python, relative to the largest score: an input half-way between two codes may be rounded either way,
in Python as in C, so single images differ by more. Scores of random weights are closer to one another than those of
trained ones. The time is the processor's, of the fastest fifth of the images, on this machine, which has a
floating-point unit: it says little of a microcontroller without one.

The RAM falls least where much of it is not rounded by the search and so has 32 bits: the residual sums of ResNet-18;
and where the sums of one channel are large beside the maps: LeNet-5.

{table(head, rows)}
"""
    publish(page, arguments.output)


if __name__ == "__main__":
    main()
