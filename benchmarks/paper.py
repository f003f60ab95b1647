"""The paper's experiments: its reference settings against ours, both stages, one command each.

    python benchmarks/paper.py --experiment lenet5_mnist --budget small --seeds 0 1 2
    python benchmarks/paper.py --experiment vgg16_cifar10 --budget full --accelerator gpu --precision bf16-mixed

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

import paper_page
from experiments import fields_in, recorded_search, shipped_settings, stage_one_configs, stage_one_seconds
from paper_outcomes import CODINGS, DATAFLOWS, Outcome, Trade

from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig

ARMS = {"reference": "_reference", "emomc": ""}
"""Arm -> what its shipped configuration's name ends with, after the experiment's."""

TRADES = [*(Trade("energy", dataflow) for dataflow in DATAFLOWS), *(Trade("size", coding) for coding in CODINGS)]

SAME = {
    "pre_prune_upper_bound": 80,
    "pre_prune_lower_bound": 20,
    "pre_prune_step": 5,
    "evaluation_batch_size": 500,
}
"""Settings of stage I in both arms: 13 levels, and the images that run together, on which no front depends."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much work an experiment may be."""

    note: str
    """What it cuts, and whom that hurts, for the page."""
    number_generations: int
    """Of each search: 20 candidates each, the first 40."""
    stage_one: dict[str, dict[str, Any]]
    """Arm -> settings of stage I that differ from those of its shipped configuration."""
    common: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of stage I that differ from those of the shipped configurations in both arms."""
    images_per_epoch: float = 1.0
    """Share of the training images that an epoch sees, chosen anew each time."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Where the command names none."""


FULL = Budget(
    "Both shipped configurations as they are, but for the levels. 2,420 candidates a search.",
    number_generations=120,
    stage_one={"reference": {}, "emomc": {}},
)

TRY = Budget(
    "Shows that everything works; the numbers mean nothing.",
    number_generations=1,
    stage_one={arm: {"pre_train_epochs": 1, "pre_prune_epochs": 1} for arm in ARMS},
    images_per_epoch=0.5,
    seeds=(0,),
)

SMALL_CIFAR10 = Budget(
    "A narrow network and a part of the images; a quarter of the reference's epochs, 75 dense and 8 a level; ours has "
    "as many dense ones and 4 a level; 420 candidates a search. The reference's dense training ends before its "
    "learning rate has fallen, which costs it accuracy; its fine-tuning has the rate that its 300 epochs end with.",
    number_generations=20,
    stage_one={
        "reference": {"pre_train_epochs": 75, "pre_prune_epochs": 8},
        "emomc": {"pre_train_epochs": 75, "pre_prune_epochs": 4},
    },
    seeds=(0,),
)
"""About an hour on two cores; what is common to both experiments with CIFAR-10."""

VGG16_EIGHTH = {"network_args": {"width": 0.125}}
"""An eighth of the channels of every layer: about 1/64 of the work."""
MOBILENET_QUARTER = {"network_args": {"width": 0.25}}

BUDGETS = {
    "lenet5_mnist": {
        "try": TRY,
        "small": Budget(
            "The reference is trained for 60 epochs instead of its 300, which costs its dense network accuracy: its "
            "learning rate has been halved once by then, not nine times. Its 32 epochs a level are its own, at the "
            "rate that 300 epochs end with. Ours is as shipped. 1,220 candidates a search instead of 2,420.",
            number_generations=60,
            stage_one={"reference": {"pre_train_epochs": 60}, "emomc": {}},
        ),
        "full": FULL,
    },
    "vgg16_cifar10": {
        "try": dataclasses.replace(TRY, common=VGG16_EIGHTH),
        "small": dataclasses.replace(SMALL_CIFAR10, common=VGG16_EIGHTH, images_per_epoch=0.5),
        "full": FULL,
    },
    "mobilenet_cifar10": {
        "try": dataclasses.replace(TRY, common=MOBILENET_QUARTER),
        "small": dataclasses.replace(SMALL_CIFAR10, common=MOBILENET_QUARTER, images_per_epoch=0.4),
        "full": FULL,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
            paper_page.write(
                output, arguments.experiment, arguments.budget, budget.note, outcomes, _settings(arguments)
            )
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


def arm_stage_one(
    experiment: str, budget: Budget, arm: str, seed: int, **given: Any
) -> tuple[PretrainingConfig, DataConfig]:
    """Return the settings of an arm's stage I.

    Args:
        experiment: a key of ``BUDGETS``.
        budget: one of its budgets.
        arm: a key of ``ARMS``.
        seed: of training and of the split of the images; the split is the same in both arms.
        given: settings that the command line has in place of all others.
    """
    shipped = shipped_settings(experiment + ARMS[arm], "pretrain")
    return stage_one_configs({**shipped, **SAME, **budget.common, **budget.stage_one[arm], "seed": seed, **given})


def arm_search(experiment: str, budget: Budget, arm: str, seed: int, trade: Trade) -> SearchConfig:
    """Return the settings of an arm's search: how it searches is its own, what is searched is the same in both."""
    reference = shipped_settings(f"{experiment}_reference", "search")
    problem = {key: reference[key] for key in ("accounting", "coding", "lowest_level", "highest_level")}
    if trade.cost == "energy":
        problem |= {"dataflow": trade.variant, "size_constraint": reference["size_constraint"]}
    else:
        problem["coding"] = trade.variant
    shipped = shipped_settings(experiment + ARMS[arm], "search")
    own = {key: value for key, value in shipped.items() if key not in ("objectives", "dataflow", "size_constraint")}
    size = {"population_size": 20, "number_generations": budget.number_generations}
    values = {**own, **problem, **size, "objectives": ("accuracy", trade.cost), "seed": seed}
    return SearchConfig(**fields_in(SearchConfig, values))


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
