"""Measure how long a step of training takes on a GPU: as PyTorch runs it, and as CUDA graphs.

    python -m benchmarks.speed.training_step

Networks of their full width, batches of 512 images of 32x32 pixels in channels-last format, bf16, stochastic gradient
descent with momentum. Of a step there stand the milliseconds that it takes, and those after which the processor has
nothing more to do for it: where both are alike, the GPU waits for the processor. The device's own limits stand above:
products of large matrices, and copies of its memory. Writes ``docs/results/training_step.md``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.networks.build import build_network
from emomc.runtime.gpu import GraphedNetwork
from emomc.runtime.optimizers import make_optimizer
from emomc.runtime.recipe import Recipe

NETWORKS = ("vgg16", "mobilenet", "resnet18")
BATCH = 512
SIDE = 8192
"""Rows and columns of the matrices that are multiplied."""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--output", type=Path, default=Path("docs/results/training_step.md"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("expected a CUDA GPU, found none")
    rows = []
    for name in arguments.networks:
        network = build_network(name, in_channels=3, num_classes=10, input_shape=(3, 32, 32)).cuda()
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for way, run in (("plain", lambda network: network), ("CUDA graphs", GraphedNetwork)):
            whole, host = _milliseconds(_step(copy.deepcopy(network), run))
            rows.append([name, way, f"{whole:.2f}", f"{host:.2f}"])
            print(rows[-1], flush=True)
    page = f"""# A step of training on a GPU

{made_by()}; {machine("gpu")}; torch {torch.__version__}.

Products of two bf16 matrices of {SIDE} rows and columns: {_tera_operations():.0f} * 10^12 operations a second. Copies:
{_giga_bytes():.0f} GB a second, read and written.

{table(["network", "way", "ms per step", "of it, ms until the processor is done"], rows)}
"""
    publish(page, arguments.output)


def _step(network: nn.Module, run: Callable[[nn.Module], Any]) -> Callable[[], None]:
    """Return a function that does a step of training."""
    images = torch.randn(BATCH, 3, 32, 32, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,), device="cuda")
    optimizer = make_optimizer(network, Recipe(optimizer="sgd", learning_rate=0.01))
    runner = run(network)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss: Tensor = functional.cross_entropy(runner(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _milliseconds(work: Callable[[], object], times: int = 50) -> tuple[float, float]:
    """Return the milliseconds of some work, and those until all of it is handed to the GPU."""
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    host = time.perf_counter() - began
    torch.cuda.synchronize()
    whole = time.perf_counter() - began
    return 1e3 * whole / times, 1e3 * host / times


def _tera_operations() -> float:
    matrix = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    whole, _ = _milliseconds(lambda: matrix @ matrix)
    return 2 * SIDE**3 / whole / 1e9


def _giga_bytes() -> float:
    source = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    whole, _ = _milliseconds(lambda: target.copy_(source))
    return 2 * source.nbytes / whole / 1e6


if __name__ == "__main__":
    main()
