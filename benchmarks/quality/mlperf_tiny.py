"""Compare the microcontrollers of the shipped hardware with published results of MLPerf Tiny.

    python -m benchmarks.quality.mlperf_tiny --out docs/results/mlperf_tiny.md

The four reference networks are described here layer by layer; only sizes matter. Nothing is random.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import table
from emomc.hardware.cycles import cycles_to_ms, estimate_cycles
from emomc.hardware.description import load_hardware
from emomc.hardware.workload import Workload
from emomc.networks.graph import trace_network

BITS = 8


def convolution(
    inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), stride: int = 1, groups: int = 1
) -> nn.Module:
    """Return a convolution whose border keeps the size."""
    padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups), nn.ReLU())


class Residual(nn.Module):
    """A block of ResNet-8."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(inputs, outputs, stride=stride), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Run the block."""
        return (self.body(maps) + self.shortcut(maps)).relu()


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Return a depthwise and a pointwise convolution."""
    return nn.Sequential(
        convolution(inputs, inputs, stride=stride, groups=inputs), convolution(inputs, outputs, (1, 1))
    )


def head(channels: int, classes: int) -> list[nn.Module]:
    """Return the mean over the map, and the classes."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def resnet8() -> nn.Module:
    """Return the network of image classification."""
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    return nn.Sequential(convolution(3, 16), *blocks, *head(64, 10))


def ds_cnn() -> nn.Module:
    """Return the network of keyword spotting: maps of 25 x 5."""
    first = nn.Sequential(nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), nn.ReLU())
    return nn.Sequential(first, *(separable(64, 64) for _ in range(4)), *head(64, 12))


def mobilenet() -> nn.Module:
    """Return the network of visual wake words: a quarter of MobileNet's channels."""
    channels = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    halves = {2, 4, 6, 12}
    blocks = [separable(channels[i - 1], channels[i], 2 if i in halves else 1) for i in range(1, len(channels))]
    return nn.Sequential(convolution(3, 8, stride=2), *blocks, *head(256, 2))


def autoencoder() -> nn.Module:
    """Return the network of anomaly detection."""
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *layers)


NETWORKS: Mapping[str, tuple[nn.Module, tuple[int, int, int]]] = {
    "image classification": (resnet8(), (3, 32, 32)),
    "keyword spotting": (ds_cnn(), (1, 49, 10)),
    "visual wake words": (mobilenet(), (3, 96, 96)),
    "anomaly detection": (autoencoder(), (1, 1, 640)),
}
"""Task -> its reference network, size of its input."""


@dataclasses.dataclass(frozen=True)
class Submission:
    """Published inferences a second of the tasks of ``NETWORKS``, in this order."""

    system: str
    hardware: str
    """The shipped hardware that is compared with it."""
    inferences: tuple[float, float, float, float]


SUBMISSIONS = (
    Submission("Krai, NUCLEO-L4R5ZI, microTVM with CMSIS-NN", "cortex_m4_cmsis_nn", (2.567, 10.019, 3.324, 116.212)),
    Submission("STMicroelectronics, NUCLEO-L4R5ZI, X-CUBE-AI", "cortex_m4_cmsis_nn", (4.673, 15.905, 8.425, 145.829)),
    Submission("Plumerai, DISCO-F746NG", "cortex_m7_cmsis_nn", (15.904, 56.341, 29.343, 585.204)),
    Submission("Bosch, DISCO-F746NG, HALE", "cortex_m7_cmsis_nn", (16.242, 54.293, 17.490, 587.335)),
)
"""Source: the repository mlcommons/tiny_results_v1.1, closed division, performance/results.txt of each task."""

EXPLANATION = """\
Published: MLPerf Tiny v1.1, closed division, inferences a second (`mlcommons/tiny_results_v1.1`, `results.txt` of each
task), the four reference networks in 8-bit integers. Estimated: cycles of the shipped hardware at its clock. Nothing is
fitted here but one number: the cycles of a multiply-accumulate of `cortex_m4_cmsis_nn` come from the first line, those
of `cortex_m7_cmsis_nn` from another network and an older CMSIS-NN, in 2018.

One speed for all layers is a coarse model: depthwise convolutions (keyword spotting, wake words) take more cycles for
a multiply-accumulate than others, and each library is as fast as it was written. What it is good for is to compare
networks with layers of one kind on one device; for more, measure a table.
"""


def estimated_ms(name: str, task: str) -> tuple[int, float]:
    """Return the multiply-accumulates of a task's network, and its milliseconds on a shipped hardware."""
    network, shape = NETWORKS[task]
    graph = trace_network(network.eval(), shape)
    bits = np.full((1, len(graph.layers)), BITS)
    workload = Workload(graph.layers, bits, np.ones(bits.shape), activation_bits=BITS, maps=graph.maps)
    hardware = load_hardware(name)
    cycles = estimate_cycles(workload, dataflow="icoc", hardware=hardware, aim="latency").sum()
    return sum(layer.macs for layer in graph.layers), float(cycles_to_ms(cycles, hardware))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, default=None, help="page to write")
    options = parser.parse_args()
    rows = []
    for submission in SUBMISSIONS:
        for task, rate in zip(NETWORKS, submission.inferences, strict=True):
            macs, ms = estimated_ms(submission.hardware, task)
            published = 1000 / rate
            deviation = 100 * (ms / published - 1)
            cells = [submission.system, submission.hardware, task, f"{macs / 1e6:.3g}", f"{published:.4g}"]
            rows.append([*cells, f"{ms:.4g}", f"{deviation:+.0f} %"])
    heads = ["published", "estimated with", "task", "million MACs", "published, ms", "estimated, ms", "deviation"]
    publish(f"# MLPerf Tiny\n\n{made_by()}.\n\n{EXPLANATION}\n{table(heads, rows)}\n", options.out)


if __name__ == "__main__":
    main()
