from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.paper.experiments import ARMS, BUDGETS, TRADES, arm_search, arm_stage_one
from emomc.cli.command import fields_of, shipped_configs
from emomc.cli.pretrain import build_parser
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig


def test_stage_one_is_what_the_command_makes(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(shipped_configs()["lenet5_mnist_reference"])["pretrain"]))
    flags = ["--pre_train_epochs", "60", "--pre_prune_step", "5", "--evaluation_batch_size", "500", "--seed", "2"]
    parsed = build_parser().parse_args(["--config", str(file), *flags])
    found = arm_stage_one("lenet5_mnist", BUDGETS["lenet5_mnist"]["small"], "reference", 2)
    expected = (
        PretrainingConfig(**fields_of(parsed, PretrainingConfig)),
        DataConfig(**fields_of(parsed, DataConfig)),
    )
    assert found == expected


@pytest.mark.parametrize("experiment", ["lenet5_mnist", "vgg16_cifar10", "mobilenet_cifar10"])
def test_both_arms_search_the_same_problem(experiment: str) -> None:
    problem = ("objectives", "dataflow", "coding", "accounting", "size_constraint", "energy_constraint", "seed")
    problem += ("population_size", "number_generations", "lowest_level", "highest_level", "min_bits", "max_bits")
    for budget in BUDGETS[experiment].values():
        for trade in TRADES:
            reference, ours = (arm_search(experiment, budget, arm, 3, trade) for arm in ARMS)
            assert all(getattr(reference, name) == getattr(ours, name) for name in problem)
            assert (reference.accounting, reference.variation, ours.variation) == ("paper", "real", "integer")
        (_, reference_data), (_, our_data) = (arm_stage_one(experiment, budget, arm, 3) for arm in ARMS)
        for name in ("dataset", "seed", "validation_fraction"):
            assert getattr(reference_data, name) == getattr(our_data, name)
