"""The paper's experiments: their two arms, their budgets, and the settings of both stages that follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.settings import fields_in, shipped_settings, stage_one_configs
from benchmarks.paper.outcomes import CODINGS, DATAFLOWS, Trade
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig
from emomc.search.config import SearchConfig

ARMS = {"reference": "_reference", "emomc": ""}
"""Arm -> what its shipped configuration's name ends with, after the experiment's."""

TRADES = [*(Trade("energy", dataflow) for dataflow in DATAFLOWS), *(Trade("size", coding) for coding in CODINGS)]

SAME = {
    "pre_prune_upper_bound": 80,
    "pre_prune_lower_bound": 20,
    "pre_prune_step": 5,
    "pre_prune_ratio": None,
    "criterion": "layerwise",
    "pruning_cost": "both",
    "evaluation_batch_size": 500,
}
"""Settings of stage I that both arms have: the paper's way to remove weights, 13 levels, and a batch size, on which no
front depends. What other levels gain: ``benchmarks.paper.reach``."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much work an experiment may be."""

    note: str
    """What it cuts, and which arm that hurts; stands on the page."""
    number_generations: int
    """Generations of each search: 20 candidates each, 40 in the first."""
    stage_one: dict[str, dict[str, Any]]
    """Arm -> settings of stage I that differ from those of its shipped configuration."""
    common: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of stage I that differ from those of the shipped configurations in both arms."""
    images_per_epoch: float = 1.0
    """Share of the training images that an epoch sees, chosen anew each time."""
    search_precision: str = "32-true"
    """Arithmetic of the candidates, in Lightning's terms."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds that are run if the command names none."""
    arms: tuple[str, ...] = tuple(ARMS)
    """The arms, in the order in which they are run."""
    first_trades: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Arm -> dataflows and codings whose searches come first, if the time may not suffice for all."""


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
"""The small budget of both experiments with CIFAR-10: about an hour on two cores."""

GPU = Budget(
    "For ten minutes of one H100 or H200: training in bf16 with batches of 512 images and rates to match, candidates "
    "in fp16. The reference has 60 dense epochs of its 300 and 4 a level of its 32, at the rate that 300 epochs end "
    "with, which costs it accuracy. 2,420 candidates a search.",
    number_generations=120,
    stage_one={
        "emomc": {"learning_rate": 0.2, "pre_prune_learning_rate": 0.01, "label_smoothing": 0.1},
        "reference": {
            "pre_train_epochs": 60,
            "learning_rate": 0.1,
            "pre_prune_epochs": 4,
            "pre_prune_learning_rate": 2 * 0.000097656,
        },
    },
    common={"batch_size": 512, "evaluation_batch_size": 1000},
    search_precision="16-mixed",
    seeds=(0,),
    arms=("emomc", "reference"),
    first_trades={"reference": ("xy", "csr")},
)

VGG16_EIGHTH = {"network_args": {"width": 0.125}}
"""An eighth of the channels of every layer: about 1/64 of the work."""
MOBILENET_QUARTER = {"network_args": {"width": 0.25}}
RESNET18_QUARTER = {"network_args": {"width": 0.25}}

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
        "gpu": GPU,
        "full": FULL,
    },
    "mobilenet_cifar10": {
        "try": dataclasses.replace(TRY, common=MOBILENET_QUARTER),
        "small": dataclasses.replace(SMALL_CIFAR10, common=MOBILENET_QUARTER, images_per_epoch=0.4),
        "gpu": GPU,
        "full": FULL,
    },
    "resnet18_cifar10": {
        "try": dataclasses.replace(TRY, common=RESNET18_QUARTER),
        "small": dataclasses.replace(SMALL_CIFAR10, common=RESNET18_QUARTER, images_per_epoch=0.25),
        "gpu": GPU,
        "full": FULL,
    },
}


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
    """Return the settings of an arm's search: how to search is the arm's own, what to search is the same in both."""
    reference = shipped_settings(f"{experiment}_reference", "search")
    problem = {key: reference[key] for key in ("accounting", "coding", "lowest_level", "highest_level")}
    if trade.cost == "energy":
        problem |= {"dataflow": trade.variant, "size_constraint": reference["size_constraint"]}
    else:
        problem["coding"] = trade.variant
    shipped = shipped_settings(experiment + ARMS[arm], "search")
    own = {key: value for key, value in shipped.items() if key not in ("objectives", "dataflow", "size_constraint")}
    size = {"population_size": 20, "number_generations": budget.number_generations}
    problem |= {"precision": budget.search_precision}
    values = {**own, **problem, **size, "objectives": ("accuracy", trade.cost), "seed": seed}
    return SearchConfig(**fields_in(SearchConfig, values))


def arm_trades(budget: Budget, arm: str, trades: Sequence[Trade]) -> list[Trade]:
    """Return the searches in the order in which an arm runs them."""
    first = budget.first_trades.get(arm, ())
    return sorted(trades, key=lambda trade: first.index(trade.variant) if trade.variant in first else len(first))
