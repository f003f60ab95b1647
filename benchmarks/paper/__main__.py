"""Run the paper's experiments, both stages, with the settings of its published code and with ours.

    python -m benchmarks.paper --experiment lenet5_mnist --budget small --seeds 0 1 2
    python -m benchmarks.paper --experiment vgg16_cifar10 --budget full --accelerator gpu --precision bf16-mixed

Two arms: ``reference`` has the settings of the shipped ``EXPERIMENT_reference.yaml``, ``emomc`` those of
``EXPERIMENT.yaml``. Both have the same images and the same split of them, the same 13 levels, ask for the same number
of candidates, and are judged by the paper's own cost formulas. Each arm and seed gets one library and seven searches of
it: accuracy against energy for each of the paper's dataflows, accuracy against size for each of its codings. The
searches of a library share what they measured through their logs. Both arms stop candidates that can no longer matter,
which provably leaves the front as it is.

Neither arm's search sees the test images; the final fronts are run over them.

Libraries and searches lie in ``RUNS/EXPERIMENT/BUDGET/ARM-SEED``. What is there already, made with the same settings,
is taken as it is, so a killed command may be started again. Writes a page, a table (.csv) and two figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks.common.command_line import argument_parser
from benchmarks.paper import page
from benchmarks.paper.experiments import ARMS, BUDGETS, TRADES, arm_search, arm_stage_one
from benchmarks.paper.outcomes import Outcome
from benchmarks.paper.recorded_search import recorded_search, stage_one_seconds
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--experiment", choices=BUDGETS, default="lenet5_mnist")
    parser.add_argument("--budget", choices=["small", "full", "try"], default="small")
    parser.add_argument("--seeds", type=int, nargs="+", help="0 1 2 if not given; 0 for the small CIFAR-10 budgets")
    parser.add_argument("--reference_seeds", type=int, nargs="*", help="those of the reference arm, if not all of them")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--dataset", help="in place of the experiment's, such as imagefolder:DIR")
    parser.add_argument("--network_args", type=json.loads, help="JSON, such as '{\"width\": 0.25}'")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--precision", default="32-true", help="of the training")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--output", type=Path, help="page to write; docs/results/paper_EXPERIMENT.md if not given")
    arguments = parser.parse_args()
    budget = BUDGETS[arguments.experiment][arguments.budget]
    arguments.seeds = arguments.seeds or list(budget.seeds)
    output = arguments.output or Path(f"docs/results/paper_{arguments.experiment}.md")
    outcomes: list[Outcome] = []
    with quiet_lightning():
        for seed in arguments.seeds:
            for arm in arguments.arms:
                if arm != "reference" or arguments.reference_seeds is None or seed in arguments.reference_seeds:
                    outcomes += _outcomes(arguments, arm, seed)
            # After each seed, so that a command that is stopped leaves a page of those it finished.
            page.write(output, arguments.experiment, arguments.budget, budget.note, outcomes, _settings(arguments))
    print(output.read_text(encoding="utf-8"))


def _outcomes(arguments: argparse.Namespace, arm: str, seed: int) -> list[Outcome]:
    """Make or find one arm's library of one seed, and its seven searches."""
    budget = BUDGETS[arguments.experiment][arguments.budget]
    run = arguments.runs / arguments.experiment / arguments.budget / f"{arm}-{seed}"
    config, data = arm_stage_one(
        arguments.experiment, budget, arm, seed, **_given(arguments, "dataset", "network_args", "data_dir")
    )
    trainer = {"limit_train_batches": budget.images_per_epoch}
    devices = Devices(accelerator=arguments.accelerator, devices=1, precision=arguments.precision, trainer=trainer)
    library = prepare_library(config, data, run, devices=devices)
    seconds = stage_one_seconds(run)
    print(f"{run}: library{'' if seconds is None else f' trained in {seconds:.0f} s'}", flush=True)
    outcomes = []
    for trade in TRADES:
        search = arm_search(arguments.experiment, budget, arm, seed, trade)
        front, work = recorded_search(
            library, search, trade.search_name, data_dir=arguments.data_dir, accelerator=arguments.accelerator
        )
        outcomes.append(Outcome(arm, seed, trade, front, work, library.manifest.levels, seconds))
        print(f"{run}: {trade.search_name} {outcomes[-1].hypervolume('validation'):.5f}", flush=True)
    return outcomes


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _settings(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return each arm's settings by name, of both stages, as the page compares them."""
    budget = BUDGETS[arguments.experiment][arguments.budget]
    settings = {}
    for arm in arguments.arms:
        given = _given(arguments, "dataset", "network_args", "data_dir")
        config, data = arm_stage_one(arguments.experiment, budget, arm, arguments.seeds[0], **given)
        search = arm_search(arguments.experiment, budget, arm, arguments.seeds[0], TRADES[0])
        settings[arm] = {
            "stage I: images_per_epoch": budget.images_per_epoch,
            **{f"stage I: {key}": value for part in (config, data) for key, value in dataclasses.asdict(part).items()},
            **{f"search: {key}": value for key, value in dataclasses.asdict(search).items()},
        }
    return settings


if __name__ == "__main__":
    main()
