"""Run the paper's experiments, both stages, with the settings of its published code and with ours.

    python -m benchmarks.paper --experiment lenet5_mnist --budget small --seeds 0 1 2
    python -m benchmarks.paper --experiment vgg16_cifar10 mobilenet_cifar10 --budget gpu --minutes 9 \\
        --archive cifar10-jpeg.tar.xz

Two arms: ``reference`` has the settings of the shipped ``EXPERIMENT_reference.yaml``, ``emomc`` those of
``EXPERIMENT.yaml``. Both have the same images and the same split of them, the same 13 levels, ask for the same number
of candidates, and are judged by the paper's own cost formulas. Each arm and seed gets one library and seven searches of
it: accuracy against energy for each of the paper's dataflows, accuracy against size for each of its codings. The
searches of a library share what they measured through their logs. Both arms stop candidates that can no longer matter,
which provably leaves the front as it is.

Neither arm's search sees the test images; the final fronts are run over them.

Libraries and searches lie in ``RUNS/EXPERIMENT/BUDGET/ARM-SEED``. What is there already, made with the same settings,
is taken as it is, so a killed command may be started again. Writes a page, a table (.csv) and two figures of each
experiment after each of its searches. With ``--minutes``, no part is begun that is not expected to end in that time;
an experiment whose page already has all searches is left out, so that the next call goes on with the next one.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.common.command_line import argument_parser
from benchmarks.common.part_clock import PartClock, TimeIsUp
from benchmarks.paper import page
from benchmarks.paper.arm_run import PARTS, ArmRun
from benchmarks.paper.experiments import ARMS, BUDGETS, TRADES, Budget, arm_search, arm_stage_one
from benchmarks.paper.outcomes import Outcome
from emomc.data.config import DataConfig
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.runtime.notices import quiet_lightning


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--experiment", choices=BUDGETS, nargs="+", default=["lenet5_mnist"])
    parser.add_argument("--budget", choices=["small", "gpu", "full", "try"], default="small")
    parser.add_argument("--minutes", type=float, help="limit of the whole command; none if not given")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", help="0 1 2 if not given; 0 for CIFAR-10")
    parser.add_argument("--reference_seeds", type=int, nargs="*", help="those of the reference arm, if not all of them")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="all of the budget, if not given")
    parser.add_argument("--archive", type=Path, help="of an image folder, unpacked into RUNS and used as the dataset")
    parser.add_argument("--dataset", help="in place of the experiment's, such as imagefolder:DIR")
    parser.add_argument("--network_args", type=json.loads, help="JSON, such as '{\"width\": 0.25}'")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--accelerator", help="cpu, but gpu with the budget gpu, if not given")
    parser.add_argument("--precision", help="of the training; 32-true, but bf16-mixed with gpu, if not given")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--output", type=Path, help="page to write, if not docs/results/paper_EXPERIMENT.md")
    arguments = parser.parse_args()
    if arguments.output and len(arguments.experiment) > 1:
        parser.error("expected one experiment with --output, which names one page")
    clock = PartClock(arguments.minutes)
    try:
        if arguments.archive:
            arguments.dataset = _unpacked(arguments, clock)
        with quiet_lightning():
            for experiment in arguments.experiment:
                _run(arguments, experiment, clock)
    except TimeIsUp as error:
        print(f"The time is up: {error}")


def _run(arguments: argparse.Namespace, experiment: str, clock: PartClock) -> None:
    """Run an experiment and write its page after each search."""
    budget = BUDGETS[experiment][arguments.budget]
    suffix = "_gpu" if arguments.budget == "gpu" else ""
    output = arguments.output or Path(f"docs/results/paper_{experiment}{suffix}.md")
    arms = arguments.arms or budget.arms
    seeds = arguments.seeds or list(budget.seeds)
    images: dict[DataConfig, ImageDataModule] = {}
    runs = [_arm_run(arguments, experiment, arm, seed, clock, images) for seed in seeds for arm in arms]
    if arguments.reference_seeds is not None:
        runs = [run for run in runs if run.arm != "reference" or run.seed in arguments.reference_seeds]
    if arguments.minutes and _searches_on(output.with_suffix(".csv"), arguments.budget) >= len(runs) * len(TRADES):
        print(f"{output} has all searches")
        return
    settings = _settings(arguments, experiment, budget, arms, seeds[0])
    outcomes: list[Outcome] = []
    for run in runs:
        for outcome in run.run(arguments.parts, TRADES):
            outcomes.append(outcome)
            print(f"{run.folder}: {outcome.trade.label} {outcome.hypervolume('validation'):.5f}", flush=True)
            # After each search, so that a command that is stopped leaves a page of those it finished.
            page.write(output, experiment, arguments.budget, budget.note, outcomes, settings, clock.parts)
    if outcomes:
        print(output.read_text(encoding="utf-8"))


def _arm_run(
    arguments: argparse.Namespace,
    experiment: str,
    arm: str,
    seed: int,
    clock: PartClock,
    images: dict[DataConfig, ImageDataModule],
) -> ArmRun:
    on_gpu = arguments.budget == "gpu"
    budget = BUDGETS[experiment][arguments.budget]
    _, config = arm_stage_one(experiment, budget, arm, seed, **_given(arguments))
    return ArmRun(
        experiment,
        budget,
        arm,
        seed,
        arguments.runs / experiment / arguments.budget / f"{arm}-{seed}",
        _given(arguments),
        arguments.accelerator or ("gpu" if on_gpu else "cpu"),
        arguments.precision or ("bf16-mixed" if on_gpu else "32-true"),
        clock,
        images.setdefault(config, ImageDataModule(config)),
    )


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line has in place of the experiment's."""
    names = ("dataset", "network_args", "data_dir")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _unpacked(arguments: argparse.Namespace, clock: PartClock) -> str:
    """Unpack the archive, unless it was, and return the dataset in it."""
    folder = arguments.runs / "data" / arguments.archive.name.partition(".")[0]
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with clock.part("unpacking the images"):
            shutil.unpack_archive(arguments.archive, partial, filter="data")
        (root,) = {path.parent for path in partial.rglob("train")}
        root.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
    return f"imagefolder:{folder.resolve()}"


def _searches_on(table: Path, budget: str) -> int:
    """Return the searches in the table of a page, if it was made with this budget."""
    if not table.exists():
        return 0
    with table.open(encoding="utf-8", newline="") as file:
        return sum(row["budget"] == budget for row in csv.DictReader(file))


def _settings(
    arguments: argparse.Namespace, experiment: str, budget: Budget, arms: list[str], seed: int
) -> dict[str, dict[str, Any]]:
    """Return each arm's settings by name, of both stages, as the page compares them."""
    settings = {}
    for arm in arms:
        config, data = arm_stage_one(experiment, budget, arm, seed, **_given(arguments))
        search = arm_search(experiment, budget, arm, seed, TRADES[0])
        settings[arm] = {
            "stage I: images_per_epoch": budget.images_per_epoch,
            **{f"stage I: {key}": value for part in (config, data) for key, value in dataclasses.asdict(part).items()},
            **{f"search: {key}": value for key, value in dataclasses.asdict(search).items()},
        }
    return settings


if __name__ == "__main__":
    main()
