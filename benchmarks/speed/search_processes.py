"""Measure how much faster two processes are than one: for a search, and for bare loops over the images.

    emomc-pretrain --config lenet5_mnist --validation_fraction 0.16667 --output runs/lenet5-mnist-10000
    python -m benchmarks.speed.search_processes

Each process has one thread. All variants run one after another, for several rounds, and the page shows medians,
because a machine's speed drifts. A search's time is that of its generations, from before the first to after the last.
With early rejection, candidates see different numbers of images, depending on what is known when they run; so the gain
is measured with early rejection and without. Fails if two processes find another front than one.
Writes ``docs/results/search_processes.md``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from benchmarks.speed.bare_loop import bare_loop, random_candidates
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.compression.quantizers import Quantizer
from emomc.data.resident import ResidentBatches
from emomc.data.splits import load_split
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist-10000/library"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=40, help="of each bare loop")
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("docs/results/search_processes.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for processes in (1, 2):
            bare = _launch(processes, _bare_seconds, arguments)
            # Two processes do the work twice.
            seconds.setdefault(("bare loops", processes), []).append(bare / processes)
        for work, early in (("search, every image", False), ("search, early rejection", True)):
            fronts = []
            for processes in (1, 2):
                took, front = _launch(processes, _search_seconds, arguments, early)
                seconds.setdefault((work, processes), []).append(took)
                fronts.append(front)
            if fronts[0] != fronts[1]:
                raise SystemExit(f"expected the front of one process from two, found another: {work}")
    rows, bare_gain = [], None
    for work in dict.fromkeys(work for work, _ in seconds):
        one, two = (statistics.median(seconds[work, processes]) for processes in (1, 2))
        bare_gain = bare_gain or one / two
        rows.append([work, f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}", f"{100 * one / two / bare_gain:.0f} %"])
    page = f"""# What a second process gains

{made_by()}; {machine()} per process.
{arguments.candidates} candidates for each bare loop, {arguments.generations} generations of 20 for each search; medians
of {arguments.rounds} rounds. One process and two found the same front.

{table(["work", "s, one process", "s, two", "gain", "of the bare loops' gain"], rows)}
"""
    publish(page, arguments.output)


def _launch(processes: int, function, *arguments):
    fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp_spawn" if processes > 1 else "auto")
    return fabric.launch(function, *arguments)


def _bare_seconds(fabric: Fabric, arguments: argparse.Namespace) -> float:
    torch.set_num_threads(1)
    library = Library.open(arguments.library)
    images, labels = load_split(library_data(library, data_dir=arguments.data_dir), "validation")
    networks = CompressedNetworks(library, library_graph(library), Quantizer())
    batches = ResidentBatches(images, labels, library.manifest.evaluation_batch_size)
    candidates = random_candidates(library, arguments.candidates)
    for genotype in candidates:
        networks.load(genotype)
    fabric.barrier()
    began = time.perf_counter()
    for genotype in candidates:
        bare_loop(networks, batches, genotype)
    fabric.barrier()
    return time.perf_counter() - began


def _search_seconds(fabric: Fabric, arguments: argparse.Namespace, early: bool) -> tuple[float, list]:
    torch.set_num_threads(1)
    # One folder for all processes, with a copy of the library, so that no earlier search's log answers.
    folder = Path(fabric.broadcast(tempfile.mkdtemp() if fabric.is_global_zero else None)) / "run"
    if fabric.is_global_zero:
        shutil.copytree(arguments.library, folder / "library")
    fabric.barrier()
    clock = _Clock()
    with quiet_lightning():
        search = run_search(
            folder / "library",
            SearchConfig(number_generations=arguments.generations),
            [clock],
            run=RunOptions(
                data=library_data(Library.open(arguments.library), data_dir=arguments.data_dir),
                fabric=fabric,
                early_rejection=early,
            ),
        )
    front = [(point.genotype.level, *point.genotype.bits, point.accuracy) for point in search.front]
    fabric.barrier()
    if fabric.is_global_zero:
        shutil.rmtree(folder.parent)
    return clock.seconds, front


class _Clock(SearchCallback):
    """Times the generations of a search."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def on_search_start(self, search) -> None:
        self._began = time.perf_counter()

    def on_generation_end(self, search) -> None:
        self.seconds = time.perf_counter() - self._began


if __name__ == "__main__":
    main()
