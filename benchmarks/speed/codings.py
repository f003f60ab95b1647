"""Time what the codings cost: the exact length of a stream in a search, encoding, decoding in Python and in C.

    python -m benchmarks.speed.codings --output docs/results/coding_speed.md

Weights are random and normal, pruned by magnitude, quantized to a layer's largest weight.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.common.errors import UserError
from emomc.compression.code_counts import count_codes
from emomc.compression.codings import CODINGS, decode, encode, stream_bits
from emomc.compression.huffman_plan import plan_huffman
from emomc.compression.pruning import prune_by_magnitude
from emomc.compression.quantization import quantize_symmetric
from emomc.networks.build import build_network
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.writer import write_packed

ROOT = Path(__file__).parents[2]
LAYERS = (
    ("third convolution of LeNet-5", (120, 16, 5, 5), 4, 0.2),
    ("largest of ResNet-18", (512, 512, 3, 3), 4, 0.05),
    ("largest of ResNet-18", (512, 512, 3, 3), 4, 0.3),
    ("largest of ResNet-18", (512, 512, 3, 3), 4, 1.0),
    ("largest of ResNet-18", (512, 512, 3, 3), 8, 1.0),
)
WIDTHS = range(2, 13)
DESCRIPTION = NetworkDescription("lenet5", {}, None, (1, 32, 32), ("0",))


def random_layer(shape: tuple[int, ...], bits: int, density: float) -> NDArray[Any]:
    """Return the codes of random weights."""
    weights = torch.randn(shape)
    weights *= prune_by_magnitude({"layer": weights}, 100 * density)["layer"]
    codes: NDArray[Any] = quantize_symmetric(weights, bits).codes.numpy()
    return codes


def fastest(work: Callable[[], Any], repeats: int) -> float:
    """Return the seconds of the fastest of some runs."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def compile_reader(folder: Path) -> Path:
    """Compile the reader in C with the optimization of its Makefile."""
    if shutil.which("cc") is None:
        raise UserError("expected a C compiler (cc), found none")
    reader, program = ROOT / "examples" / "c_reader", folder / "unpack_speed"
    sources = [ROOT / "benchmarks" / "speed" / "unpack_speed.c", reader / "emomc.c"]
    subprocess.run(["cc", "-std=c99", "-O2", "-I", reader, "-o", program, *sources], check=True)
    return program


def decoding_rows(program: Path, folder: Path, repeats: int) -> list[list[str]]:
    """Return what each coding takes for each layer."""
    rows = []
    for what, shape, bits, density in LAYERS:
        codes = random_layer(shape, bits, density)
        for coding in CODINGS:
            first = [what, f"{codes.size:,}", str(bits), f"{100 * density:g}", coding]
            rows.append([*first, *coding_cells(codes, bits, coding, program, folder / "network.emomc", repeats)])
    return rows


def coding_cells(codes: NDArray[Any], bits: int, coding: str, program: Path, path: Path, repeats: int) -> list[str]:
    """Return the bits of a weight, and the speed of encoding and decoding one layer."""
    stream = encode(codes, bits, coding)
    layer = PackedLayer("layer", bits, codes, np.ones(1, np.float32))
    write_packed(path, PackedNetwork(DESCRIPTION, (layer,), {}), coding)
    command = [program, path, layer.name, str(repeats)]
    in_c = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    writing = fastest(lambda: encode(codes, bits, coding), repeats)
    reading = fastest(lambda: decode(stream, codes.size, bits), repeats)
    million = codes.size / 1e6
    in_python = [f"{million / seconds:,.1f}" for seconds in (writing, reading)]
    return [
        f"{8 * len(stream.data) / codes.size:.3f}",
        *in_python,
        f"{million / in_c:,.0f}",
        f"{4 * million / in_c:,.0f}",
    ]


def counting_rows(repeats: int) -> list[list[str]]:
    """Return what the exact lengths of all layers of a network take, for every number of bits."""
    rows = []
    for name, density in (("lenet5", 0.2), ("resnet18", 0.2)):
        network = build_network(name, in_channels=3, num_classes=10)
        modules = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        weights = {str(index): module.weight.detach() for index, module in enumerate(modules)}
        masks = prune_by_magnitude(weights, 100 * density)
        seconds = np.zeros(4)
        for index, weight in weights.items():
            for bits in WIDTHS:
                codes = quantize_symmetric(weight * masks[index], bits).codes.numpy()
                counts = count_codes(codes)
                nonzero = codes[codes != 0]
                seconds += [
                    fastest(lambda codes=codes: count_codes(codes), repeats),
                    fastest(lambda nonzero=nonzero: np.bincount(np.abs(nonzero.astype(np.int32))), repeats),
                    fastest(lambda counts=counts, bits=bits: plan_huffman(counts, bits), repeats),
                    fastest(lambda counts=counts, bits=bits: _others(counts, bits), repeats),
                ]
        each = 1000 * seconds / len(weights) / len(WIDTHS)
        total = sum(weight.numel() for weight in weights.values())
        whole = f"{seconds[[0, 2, 3]].sum():.2f}"
        rows.append([name, f"{total:,}", str(len(weights)), *(f"{ms:.3f}" for ms in each), whole])
    return rows


def _others(counts: Any, bits: int) -> None:
    for coding in CODINGS:
        if coding != "huffman":
            stream_bits(counts, bits, coding)


def report(repeats: int) -> str:
    """Return the page."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        decoding = decoding_rows(compile_reader(Path(folder)), Path(folder), repeats)
    counting = counting_rows(repeats)
    decoding_head = ["layer", "weights", "bits", "density, %", "coding", "bits a weight", "encoding, Mweights/s"]
    decoding_head += ["decoding in Python, Mweights/s", "decoding in C, Mweights/s", "the same as float32, MB/s"]
    counting_head = ["network", "weights", "layers", "counts, ms", "of it the magnitudes, ms", "huffman, ms"]
    counting_head += ["other codings, ms", "all layers and bits, s"]
    return f"""# What the codings cost

{made_by()}, {machine()}; seed 0, the fastest of {repeats} runs.

## Encoding and decoding

Random normal weights, pruned by magnitude, quantized to the largest. The reader in C (`cc -O2`) writes float32 weights;
one Mweight/s is 4 MB/s of them, or 1 MB/s where weights of up to 8 bits are kept in bytes.

{table(decoding_head, decoding)}

## The exact account of a search

A search counts each (level, layer, bits) once. The table has the mean of a layer and a width, over widths from
{WIDTHS[0]} to {WIDTHS[-1]} bits, at a density of 20 %: counting the codes, of which huffman alone needs the magnitudes;
from the counts, the length in huffman and in the other codings. The sum over all layers and widths is what one
level costs a search that tries them all.

{table(counting_head, counting)}
"""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the fastest counts; 1 or more")
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    publish(report(arguments.repeats), arguments.output)


if __name__ == "__main__":
    main()
