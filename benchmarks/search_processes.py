"""What a second process gains a search, against what it gains two bare forward loops, in one run on one machine.

    python benchmarks/search_processes.py --library runs/lenet5-mnist/library --data_dir data

Each process has one thread. A search's time is that of its generations, from before the first to after the last. With
early rejection two candidates that run side by side see unlike numbers of images, and the shorter waits: the gain is
given with and without. Both numbers of processes must find the same front, or the script ends with an error.
Writes ``docs/results/search_processes.md``.
"""

import argparse
import datetime
import shutil
import tempfile
import time
from pathlib import Path

import torch
from experiments import command, machine, table
from lightning_fabric import Fabric
from search_speed import bare_loop, random_candidates

from emomc.compressed import CompressedNetworks, Quantizer
from emomc.files import write_text
from emomc.library import Library
from emomc.lightning_modules.data import DataConfig, build_data, load_split
from emomc.quiet import quiet_lightning
from emomc.resident import ResidentBatches
from emomc.search import build_own_network, run_search
from emomc.search_callback import SearchCallback
from emomc.search_config import SearchConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist/library"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--candidates", type=int, default=60, help="of each bare loop")
    parser.add_argument("--generations", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("docs/results/search_processes.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    one, two = (_launch(n, _bare_seconds, arguments) for n in (1, 2))
    # Each of two loops does what the one did.
    gains = {"bare loops": (one, two / 2, 2 * one / two)}
    for label, early in (("search, every image", False), ("search, early rejection", True)):
        (one, front), (two, other) = (_launch(n, _search_seconds, arguments, early) for n in (1, 2))
        if front != other:
            raise SystemExit(f"expected the front of one process from two, found another: {label}")
        gains[label] = (one, two, one / two)
    bare = gains["bare loops"][2]
    rows = [
        [label, f"{one:.1f}", f"{two:.1f}", f"{gain:.2f}", f"{100 * gain / bare:.0f} %"]
        for label, (one, two, gain) in gains.items()
    ]
    page = f"""# What a second process gains

Made by `{command()}` on {datetime.date.today()}; {machine()} per process.
{arguments.candidates} candidates for each bare loop, {arguments.generations} generations of 20 for each search. One
process and two found the same front.

{table(["work", "s, one process", "s, two", "gain", "of the bare loops' gain"], rows)}
"""
    write_text(arguments.output, page)
    print(page)


def _launch(processes: int, function, *arguments):
    fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp_spawn" if processes > 1 else "auto")
    return fabric.launch(function, *arguments)


def _bare_seconds(fabric: Fabric, arguments: argparse.Namespace) -> float:
    torch.set_num_threads(1)
    library = Library.open(arguments.library)
    images, labels = load_split(_data(library, arguments), "validation")
    networks = CompressedNetworks(library, build_own_network(library), Quantizer())
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
    # One folder for all processes, and a copy: no log answers.
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
            data=_data(Library.open(arguments.library), arguments),
            fabric=fabric,
            early_rejection=early,
        )
    front = [(point.genotype.level, *point.genotype.bits, point.accuracy) for point in search.front]
    fabric.barrier()
    if fabric.is_global_zero:
        shutil.rmtree(folder.parent)
    return clock.seconds, front


def _data(library: Library, arguments: argparse.Namespace):
    return build_data(DataConfig(**{**library.manifest.data, "data_dir": arguments.data_dir}))


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
