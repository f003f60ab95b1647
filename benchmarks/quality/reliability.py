"""Kill both commands at random moments and run them for long; check that nothing is lost and that memory does not grow.

    python -m benchmarks.quality.reliability --output docs/results/reliability.md

Processes are forked from one that has imported everything, so that they are killed at work and not while importing.
What stands in the output outside of the two marks stays.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment
from safetensors import safe_open

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import put_between_marks
from benchmarks.common.tables import table
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.cli import pretrain, search
from emomc.common.files import write_text
from emomc.data.config import DataConfig
from emomc.library.library import Library
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.digests import state_digest
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search

MEMORY_GROWTH_ALLOWED = 0.05
TENSORBOARD_ALLOWED_MIB = 50.0
LONG_POPULATION = 100

TRAIN = [
    *["--pre_train_epochs", "3", "--pre_prune_upper_bound", "80", "--pre_prune_lower_bound", "40"],
    *["--pre_prune_step", "20", "--pre_prune_epochs", "2", "--batch_size", "64", "--evaluation_batch_size", "64"],
    *["--keep_front", "true", "--accelerator", "cpu", "--devices", "1"],
]
SEARCH = [
    *["--population_size", "8", "--number_generations", "8", "--name", "s", "--accelerator", "cpu", "--quiet"],
    *["--finetune_epochs", "1"],
]


class Failure(Exception):
    """Something that must hold does not."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Failure(what)


# Kills


def in_fork(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Start a command in a process of its own; return the process's number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        # So that torch makes a new pool of threads before its thread for gradients asks for one: both at once abort.
        torch.set_num_threads(1)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        status = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def finish(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> float:
    """Run a command to its end; return the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(in_fork(main, arguments), 0)
    check(status == 0, f"{main.__module__} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began


def is_killed(main: Callable[[Sequence[str]], int], arguments: Sequence[str], seconds: float) -> bool:
    """Start a command and kill it after a while; return whether it was still at work."""
    process = in_fork(main, arguments)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    ended = os.waitstatus_to_exitcode(status)
    check(ended in (0, -signal.SIGKILL), f"{main.__module__} ended with status {ended}")
    return ended != 0


def check_whole(folder: Path) -> None:
    """Check that each file that stands under its name can be read to its end."""
    for file in folder.rglob("*"):
        if file.name.endswith(".partial") or not file.is_file():
            continue
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as content:
                for name in content.keys():  # noqa: SIM118
                    content.get_tensor(name)
        elif file.suffix == ".ckpt":
            torch.load(file, weights_only=True)
    if (folder / "library" / "library.json").exists():
        library = Library.open(folder / "library")
        for percent in library.levels:
            library.load_state(percent)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on kills: all files but locks and the logs of TensorBoard, which hold times.

    Of checkpoints it is the weights: Lightning's counts of what was begun and what was ended know of a restart.
    """
    return {
        str(file.relative_to(folder)): weights(file) if file.suffix == ".ckpt" else file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock" and not {"logs", "tensorboard"} & {*file.relative_to(folder).parts}
    }


def weights(checkpoint: Path) -> bytes:
    return state_digest(torch.load(checkpoint, weights_only=True)["state_dict"]).encode()


def kill(
    main: Callable[[Sequence[str]], int],
    arguments: Callable[[Path], list[str]],
    fresh: Callable[[Path], None],
    kills: int,
    moments: random.Random,
    folder: Path,
) -> tuple[int, int]:
    """Kill a command at random moments of its work, again and again; return the runs finished and files compared.

    A run that is killed begins again where it was. A run that comes to its end is compared with one that was left
    alone, and the next begins from nothing.
    """
    # Always the same folder: checkpoints hold its name.
    place = folder / "run"
    fresh(place)
    seconds = finish(main, arguments(place))
    expected = contents(place)
    killed, runs = 0, 0
    while killed < kills:
        shutil.rmtree(place)
        fresh(place)
        # From the first moment to half of the whole: several kills a run, and some far into a stage.
        while killed < kills and is_killed(main, arguments(place), moments.uniform(0.02, 0.5) * seconds):
            killed += 1
            check_whole(place)
        finish(main, arguments(place))
        found = contents(place)
        differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        check(not differing, f"{main.__module__}: after kills other bytes in {sorted(differing)}")
        runs += 1
    return runs, len(expected)


def kills(count: int, seed: int, folder: Path) -> list[list[str]]:
    moments = random.Random(seed)

    def train(place: Path) -> list[str]:
        return [*TRAIN, "--output", str(place)]

    def copy_library(place: Path) -> None:
        shutil.copytree(folder / "pretrain" / "run" / "library", place / "library")

    half = count // 2
    runs, files = kill(pretrain.main, train, lambda place: None, half, moments, folder / "pretrain")
    rows = [["emomc-pretrain", f"{half}", f"{runs}", f"{files}", "equal"]]
    runs, files = kill(
        search.main,
        lambda place: [*SEARCH, "--library", str(place / "library")],
        copy_library,
        count - half,
        moments,
        folder / "search",
    )
    return [*rows, ["emomc-search", f"{count - half}", f"{runs}", f"{files}", "equal"]]


# Memory


def resident_mib() -> float:
    """Return the memory that this process has in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Memory:
    """The resident memory after each of many steps."""

    def __init__(self, what: str, warm_up: int) -> None:
        self.what = what
        self.warm_up = warm_up
        self.steps = 0
        self.warm = 0.0
        self.most = 0.0

    def note(self, steps: int) -> None:
        self.steps = steps
        now = resident_mib()
        if steps <= self.warm_up or not self.warm:
            self.warm = max(self.warm, now)
        self.most = max(self.most, now)

    def row(self) -> list[str]:
        growth = self.most / self.warm - 1
        check(growth < MEMORY_GROWTH_ALLOWED, f"memory over {self.steps} {self.what} grew by {100 * growth:.1f} %")
        memory = [f"{self.warm:.0f}", f"{self.most:.0f}", f"{growth:+.1%}"]
        return [f"{self.steps:,} {self.what}", f"{self.warm_up:,}", *memory]


class MemoryOfSearch(SearchCallback):
    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def on_generation_end(self, search: object) -> None:
        self.memory.note(search.tally.measured)  # type: ignore[attr-defined]


class MemoryOfTraining(pl.Callback):
    def __init__(self, memory: Memory, level: int) -> None:
        self.memory = memory
        self.level = level

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.memory.note(self.level)


def prepare(levels: int, folder: Path) -> list[str]:
    """Make a library of many levels; return the row on its memory."""
    # The allocator's pools fill for some 50 levels: 931 MiB after 6, 958 after 48, 965 after 84 of them.
    memory = Memory("levels", 2 * levels // 5)
    number = iter(range(levels + 1))
    config = PretrainingConfig(
        pre_train_epochs=3,
        pre_prune_upper_bound=90,
        pre_prune_lower_bound=91 - levels,
        pre_prune_step=1,
        pre_prune_epochs=1,
        evaluation_batch_size=64,
    )
    prepare_library(
        config,
        DataConfig(batch_size=128),
        folder,
        devices=Devices(accelerator="cpu", devices=1),
        callbacks=lambda stage: [MemoryOfTraining(memory, next(number))],
    )
    return memory.row()


def long_search(evaluations: int, folder: Path) -> tuple[list[str], list[str]]:
    """Search for long, and once as long as the reference does; return the rows on memory and on TensorBoard."""
    memory = Memory("evaluations", evaluations // 5)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])

    def run(name: str, population: int, generations: int, callbacks: list[SearchCallback]) -> Path:
        config = SearchConfig(population_size=population, number_generations=generations)
        return run_search(
            folder / "library", config, callbacks, run=RunOptions(name=name, fabric=fabric, early_rejection=False)
        ).folder

    # A large population: a small one asks for the same genotypes again once it has converged.
    observers = [FrontWriter(), TensorBoardFrontLogger(), MemoryOfSearch(memory)]
    run("long", LONG_POPULATION, math.ceil(1.6 * evaluations / LONG_POPULATION), observers)
    check(memory.steps >= evaluations, f"{memory.steps} evaluations instead of {evaluations}")
    logs = run("reference", 20, min(120, evaluations // 20), [TensorBoardFrontLogger()]) / "tensorboard"
    mib = sum(file.stat().st_size for file in logs.rglob("*") if file.is_file()) / 2**20
    check(mib < TENSORBOARD_ALLOWED_MIB, f"TensorBoard's logs take {mib:.1f} MiB")
    asked = 20 * min(120, evaluations // 20) + 20
    return memory.row(), [f"{asked:,} candidates", f"{mib:.1f}"]


def report(arguments: argparse.Namespace) -> str:
    began = time.monotonic()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, quiet_lightning():
        folder = Path(name)
        killed = kills(arguments.kills, arguments.seed, folder / "kills")
        levels = prepare(arguments.levels, folder / "long")
        evaluations, logs = long_search(arguments.evaluations, folder / "long")
    settings = {name: getattr(arguments, name) for name in ("kills", "levels", "evaluations", "seed")}
    memory_head = ["over", "first steps", "most during them, MiB", "most, MiB", "growth"]
    return f"""`{command_with(**settings)}`,
{datetime.date.today()}, {platform.machine()} with {os.cpu_count()} threads, 1 used; torch {torch.__version__},
Python {platform.python_version()}; {(time.monotonic() - began) / 60:.0f} minutes. LeNet-5 on digits.

Killed (SIGKILL) at random moments of its work, and started again with the same command. After each kill every file that
stood under its name was whole; each run that came to its end left the bytes of a run that was left alone: libraries,
calibrations, fine-tuned points, logs of evaluations, fronts, figures, reports.

{table(["command", "kills", "runs finished", "files of a run", "bytes"], killed)}

Resident memory; the most after the first steps may exceed the most during them by {MEMORY_GROWTH_ALLOWED:.0%}.

{table(memory_head, [levels, evaluations])}

TensorBoard's logs of a search of the reference's size; at most {TENSORBOARD_ALLOWED_MIB:.0f} MiB are allowed.

{table(["search", "MiB"], [logs])}
"""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills, half of them of each command")
    parser.add_argument("--levels", type=int, default=85, help="levels of the long training")
    parser.add_argument("--evaluations", type=int, default=5000, help="evaluations of the long search")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--output", type=Path, default=None, help="markdown file with the two marks, besides printing")
    arguments = parser.parse_args()
    # The kills fork this process, and a fork of a process with threads may hang.
    torch.set_num_threads(1)
    measured = report(arguments)
    print(measured)
    if arguments.output:
        write_text(
            arguments.output, put_between_marks(arguments.output.read_text(encoding="utf-8"), "measured", measured)
        )


if __name__ == "__main__":
    main()
