"""Compare what a table of ``emomc-measure`` predicts with what whole networks take in onnxruntime on this machine.

    python -m benchmarks.quality.measured_latency --out docs/results/measured_latency.md

For each network of the zoo, its layers are measured one by one. Then random networks are exported to ONNX as
``emomc-export`` does it, and each is run as a whole. The prediction is the sum of the table's entries. Fails if a rank
correlation with inputs of one width is below 0.9.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import publish
from benchmarks.common.tables import table
from benchmarks.quality.networks_in_c import packed_network
from emomc.common.errors import UserNote
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.export.layer_latency import Timing, least_ms, measure_layers, table_text
from emomc.export.onnx_graph import write_onnx
from emomc.hardware.measured_costs import measured_costs
from emomc.hardware.measured_hardware import MeasuredHardware, hardware_of_table
from emomc.hardware.workload import ByLayer, Workload
from emomc.networks.build import build_network
from emomc.networks.graph import trace_network
from emomc.networks.layers import LayerShape
from emomc.packed_file.network import PackedNetwork

ZOO = {
    "lenet5": ((1, 32, 32), {}),
    "mobilenet": ((3, 32, 32), {"width": 0.5}),
    "vgg16": ((3, 32, 32), {"width": 0.5}),
    "resnet18": ((3, 32, 32), {"width": 0.5}),
}
"""Network -> size of an image, arguments."""
WEIGHT_BITS = (8, 12)
INPUTS = {"8": (8, 8), "8 or not rounded": (8, 16)}
"""Bits of the inputs of layers -> the two widths that they are drawn from."""
BOUND = "8"
"""Those whose rank correlation has a bound."""
LEAST_CORRELATION = 0.9


@dataclasses.dataclass(frozen=True)
class Compared:
    """Predicted and measured milliseconds of the random networks made of one, each of shape (networks,)."""

    name: str
    inputs: str
    """One of ``INPUTS``."""
    predicted: np.ndarray
    measured: np.ndarray

    @property
    def correlation(self) -> float:
        """Spearman's rank correlation."""
        return float(np.corrcoef(_ranks(self.predicted), _ranks(self.measured))[0, 1])

    @property
    def cells(self) -> list[str]:
        """A line of the page's table."""
        share = self.predicted / self.measured
        return [
            self.name,
            self.inputs,
            f"{self.measured.min():.3g} to {self.measured.max():.3g}",
            f"{self.correlation:.3f}",
            f"{np.median(share):.2f} ({share.min():.2f} to {share.max():.2f})",
            "-" if self.inputs != BOUND else "yes" if self.correlation >= LEAST_CORRELATION else "no",
        ]


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(np.float64)


def compare(name: str, count: int, timing: Timing, folder: Path) -> list[Compared]:
    """Measure the layers of a network, then random networks made of it as wholes."""
    shape, arguments = ZOO[name]
    torch.manual_seed(0)
    network = build_network(name, in_channels=shape[0], num_classes=10, network_args=arguments)
    layers = trace_network(network.eval(), shape).layers
    csv = folder / f"{name}.csv"
    csv.write_text(table_text(measure_layers(layers, timing, lambda call: None), timing))
    hardware = hardware_of_table(csv)
    packed, random = packed_network(network, shape), np.random.default_rng(0)
    found = []
    for inputs, choices in INPUTS.items():
        models, predicted = [], []
        for _ in range(count):
            bits, input_bits = (_drawn(random, few, many, len(layers)) for few, many in (WEIGHT_BITS, choices))
            path = folder / f"{name}.onnx"
            write_onnx(path, with_widths(packed, bits, input_bits), network)
            images = np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)
            models.append((path.read_bytes(), {"images": images}))
            predicted.append(predict(layers, bits, input_bits, hardware))
        found.append(Compared(name, inputs, np.array(predicted), np.array(least_ms(models, timing))))
        print(*found[-1].cells, file=sys.stderr)
    return found


def _drawn(random: np.random.Generator, few: int, many: int, layers: int) -> np.ndarray:
    """Return the bits of each layer: of each network, another share of the layers has few."""
    return np.where(random.random(layers) < random.random(), few, many)


def predict(layers: Sequence[LayerShape], bits: np.ndarray, inputs: np.ndarray, hardware: MeasuredHardware) -> float:
    """Return the milliseconds that the table gives for a network."""
    by_layer = ByLayer(inputs[None], inputs[None], FULL_ACTIVATION_BITS)
    workload = Workload(layers, bits[None], np.ones((1, len(layers))), activation_bits=by_layer)
    return float(measured_costs(workload, hardware).ms.sum())


def with_widths(packed: PackedNetwork, bits: np.ndarray, inputs: np.ndarray) -> PackedNetwork:
    """Return a network whose layers have other bits of weights, and inputs that are rounded where they are narrow."""
    layers = [
        dataclasses.replace(layer, bits=int(own), inputs=layer.inputs if width < FULL_ACTIVATION_BITS else None)
        for layer, own, width in zip(packed.layers, bits, inputs, strict=True)
    ]
    return dataclasses.replace(packed, layers=tuple(layers))


EXPLANATION = """\
The layers of each network are measured one by one, as `emomc-measure` does it. Then random networks made of it are
exported as `emomc-export` does it and run as wholes, one image at a time: in each, a share of the layers, drawn anew,
has weights of 8 bits, the others of 12. Inputs of layers have 8 bits in all layers (`--activation_bits 8`: layers of
8-bit weights run in integers, the others in floats), or are drawn layer by layer (`--activation_bits 8 16`). The
prediction is the sum of the table's entries. One thread; the time is that of the processor, since other programs run
on this machine, and of several rounds, which all layers or networks take in turn, the one that was disturbed least.

- *Rank correlation*: Spearman's, among the random networks of one line; bound: 0.9 with inputs of 8 bits. Networks of
  several sizes together would have a high one by their sizes alone.
- *Predicted / measured*: the table leaves out poolings, activation functions, additions, and the rounding of the
  image. The networks of LeNet-5 differ by less than that: by some microseconds.
- A convolution whose output is not rounded at once has no fused kernel in onnxruntime, and takes several times as long
  in integers: before a layer whose inputs are not rounded, and before the additions of ResNet-18, where 8 bits are
  slower than floats. What a layer takes depends on the next there, which a table by layer cannot say: such networks
  are ranked wrongly. `docs/targets.md` names other files for them.
"""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, default=None, help="page to write")
    parser.add_argument("--count", type=int, default=20, help="random networks of each, 2 or more")
    parser.add_argument(
        "--seconds", type=float, default=0.05, help="how long each layer and each network runs in a round"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often, in turn; the least disturbed round counts")
    parser.add_argument("--networks", nargs="*", default=list(ZOO), help="which of the zoo")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore", UserNote)
    timing = Timing(threads=1, seconds=options.seconds, rounds=options.rounds, clock="processor")
    with tempfile.TemporaryDirectory() as folder:
        found = [one for name in options.networks for one in compare(name, options.count, timing, Path(folder))]
        remark = (Path(folder) / f"{options.networks[0]}.csv").read_text().splitlines()[0].removeprefix("# ")
    head = ["network", "bits of inputs", "measured, ms", "rank correlation", "predicted / measured", "within bound"]
    command = command_with(count=options.count, seconds=options.seconds, rounds=options.rounds)
    page = f"""# Latency as measured

`{command}`, {remark}; seed 0, {options.count} random networks a line.

{EXPLANATION}
{table(head, [one.cells for one in found])}
"""
    publish(page, options.out)
    if any(one.correlation < LEAST_CORRELATION for one in found if one.inputs == BOUND):
        raise SystemExit(f"expected rank correlations of at least {LEAST_CORRELATION}, found lower ones")


if __name__ == "__main__":
    main()
