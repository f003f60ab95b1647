"""Measure how long a candidate takes: LeNet-5 on MNIST, 10,000 images, several ways in one run on one machine.

    emomc-pretrain --config lenet5_mnist --validation_fraction 0.16667 --output runs/lenet5-mnist-10000
    python -m benchmarks.speed.search_speed

(a) a plain re-creation of the way of the paper's reference: the checkpoint is read from disk for each candidate, images
    are decoded by a DataLoader with two workers, masks are found by argsort and weights quantized in every forward;
(b) a bare loop over resident batches, weights copied in place;
(c) the same loop through a compiled graph;
(d) ours: a validation-only Trainer per candidate, compiled;
(e) ours over a whole search, with early rejection.
The images are those the library's networks were validated on. Writes ``docs/results/search_speed.md``.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Resize, ToTensor

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from benchmarks.speed.bare_loop import bare_loop, random_candidates
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.compression.quantizers import Quantizer
from emomc.data.resident import ResidentBatches
from emomc.data.splits import load_split
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph, library_network
from emomc.runtime.compilation import CompiledNetwork
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist-10000/library"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--candidates", type=int, default=60, help="timed by (b), (c) and (d); a fifth of them by (a)")
    parser.add_argument("--generations", type=int, default=120)
    parser.add_argument("--output", type=Path, default=Path("docs/results/search_speed.md"))
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    images, labels = load_split(library_data(library, data_dir=arguments.data_dir), "validation")
    networks = CompressedNetworks(library, library_graph(library), Quantizer())
    batch_size = library.manifest.evaluation_batch_size
    compiled = CompiledNetwork(networks.network, batch_size)
    evaluator = CandidateEvaluator(networks, images, labels, batch_size=batch_size, network=compiled)
    batches = ResidentBatches(images, labels, batch_size)
    candidates = random_candidates(library, arguments.candidates)
    with quiet_lightning(), tempfile.TemporaryDirectory() as folder:
        reference = _ReferenceWay(library, Path(arguments.data_dir), len(labels), Path(folder))
        for genotype in candidates:  # quantized layers are made once, and kept; not a candidate's own cost
            networks.load(genotype)
        bare_loop(networks, batches, candidates[0], compiled)  # compiles
        ways: dict[str, Callable[[Genotype], int]] = {
            "a": reference.evaluate,
            "b": lambda genotype: bare_loop(networks, batches, genotype),
            "c": lambda genotype: bare_loop(networks, batches, genotype, compiled),
            "d": lambda genotype: evaluator.evaluate(genotype).correct,
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        # Side by side and in random order, so that a machine whose speed drifts weighs on all alike.
        generator = np.random.default_rng(0)
        for number, genotype in enumerate(candidates):
            for way in generator.permutation(["a", "b", "c", "d"] if number % 5 == 0 else ["b", "c", "d"]):
                began = time.perf_counter()
                ways[way](genotype)
                times[way].append(time.perf_counter() - began)
        # A copy, so that no earlier search's log answers.
        shutil.copytree(library.path, Path(folder) / "run" / "library")
        began = time.perf_counter()
        search = run_search(
            Path(folder) / "run" / "library",
            SearchConfig(number_generations=arguments.generations),
            run=RunOptions(data=library_data(library, data_dir=arguments.data_dir)),
        )
        whole = time.perf_counter() - began
    seconds = {
        "a, the reference's way": statistics.median(times["a"]),
        "b, bare loop": statistics.median(times["b"]),
        "c, bare compiled loop": statistics.median(times["c"]),
        "d, Trainer per candidate": statistics.median(times["d"]),
        "e, whole search with early rejection": whole / search.tally.asked,
    }
    slowest = seconds["a, the reference's way"]
    rows = [[name, f"{own:.4f}", f"{slowest / own:.1f}"] for name, own in seconds.items()]
    stopped = search.rejected / len(search.candidates)
    seen = search.tally.images / (len(search.candidates) * len(labels))
    page = f"""# Speed of a candidate's evaluation

{made_by()}; {machine()}.
LeNet-5, {len(labels):,} validation images of MNIST, batches of {batch_size}. Medians over {len(candidates)}
candidates (a: {len(times["a"])}), except for e: seconds of the whole search, start, compilation and end included, over
the candidates it asked for.

{table(["way", "seconds per candidate", "times faster than a"], rows)}

Candidate by candidate, d over b: {_ratios(times["d"], times["b"])}; d over c: {_ratios(times["d"], times["c"])}.
The search of e asked for {search.tally.asked:,} candidates in {whole:.0f} s; {len(search.candidates):,} were distinct,
{100 * stopped:.0f} % of these were stopped early, and {100 * seen:.0f} % of their images were seen.
"""
    publish(page, arguments.output)


def _ratios(times: list[float], others: list[float]) -> str:
    low, middle, high = statistics.quantiles((one / other for one, other in zip(times, others, strict=True)), n=4)
    return f"median {middle:.3f}, quartiles {low:.3f} and {high:.3f}"


class _ReferenceWay:
    """Masks and quantization inside the forward pass, data through a DataLoader, a checkpoint from disk each time."""

    def __init__(self, library: Library, data_dir: Path, images: int, folder: Path) -> None:
        self.library = library
        self.folder = folder
        for percent in library.levels:
            torch.save(library.load_state(percent), folder / f"{percent}.pth")
        transform = Compose([Resize((32, 32)), ToTensor()])
        data = Subset(MNIST(str(data_dir), train=True, transform=transform), range(images))
        self.loader = DataLoader(data, batch_size=2048, num_workers=2)
        self.network = library_network(library).eval()

    @torch.no_grad()
    def evaluate(self, genotype: Genotype) -> int:
        state = torch.load(self.folder / f"{genotype.level}.pth", weights_only=True)
        self.network.load_state_dict(state)
        bits = dict(zip((layer.name for layer in self.library.manifest.layers), genotype.bits, strict=True))
        handles = [
            self.network.get_submodule(name).register_forward_pre_hook(
                _compress_in_forward(genotype.level / 100, width)
            )
            for name, width in bits.items()
        ]
        correct = sum(int((self.network(images).argmax(1) == labels).sum()) for images, labels in self.loader)
        for handle in handles:
            handle.remove()
        return correct


def _compress_in_forward(density: float, bits: int) -> Callable[[nn.Module, tuple], None]:
    def hook(layer: nn.Module, inputs: tuple) -> None:
        weight = layer.weight.data
        removed = round(weight.numel() * (1 - density))
        mask = torch.ones(weight.numel())
        mask[weight.abs().flatten().argsort()[:removed]] = 0
        pruned = weight * mask.view_as(weight)
        step = pruned.abs().max() / (2 ** (bits - 1) - 1)
        layer.weight.data = torch.round(pruned / step) * step

    return hook


if __name__ == "__main__":
    main()
