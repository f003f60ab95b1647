from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path

import pytest
import yaml

from emomc.cli.command import fields_of, shipped_configs
from emomc.cli.pretrain import build_parser
from emomc.common.pareto import hypervolume
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig


def test_stage_one_is_what_the_command_makes(tmp_path: Path) -> None:
    paper = importlib.import_module("paper")
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(shipped_configs()["lenet5_mnist_reference"])["pretrain"]))
    flags = ["--pre_train_epochs", "60", "--pre_prune_step", "5", "--evaluation_batch_size", "500", "--seed", "2"]
    parsed = build_parser().parse_args(["--config", str(file), *flags])
    found = paper.arm_stage_one("lenet5_mnist", paper.BUDGETS["lenet5_mnist"]["small"], "reference", 2)
    expected = (
        PretrainingConfig(**fields_of(parsed, PretrainingConfig)),
        DataConfig(**fields_of(parsed, DataConfig)),
    )
    assert found == expected


@pytest.mark.parametrize("experiment", ["lenet5_mnist", "vgg16_cifar10", "mobilenet_cifar10"])
def test_both_arms_search_the_same_problem(experiment: str) -> None:
    paper = importlib.import_module("paper")
    problem = ("objectives", "dataflow", "coding", "accounting", "size_constraint", "energy_constraint", "seed")
    problem += ("population_size", "number_generations", "lowest_level", "highest_level", "min_bits", "max_bits")
    for budget in paper.BUDGETS[experiment].values():
        for trade in paper.TRADES:
            reference, ours = (paper.arm_search(experiment, budget, arm, 3, trade) for arm in paper.ARMS)
            assert all(getattr(reference, name) == getattr(ours, name) for name in problem)
            assert (reference.accounting, reference.variation, ours.variation) == ("paper", "real", "integer")
        (_, reference_data), (_, our_data) = (paper.arm_stage_one(experiment, budget, arm, 3) for arm in paper.ARMS)
        for name in ("dataset", "seed", "validation_fraction"):
            assert getattr(reference_data, name) == getattr(our_data, name)


def test_fronts_of_the_published_code_cover_what_its_run_reported() -> None:
    published = importlib.import_module("published")
    reported = {"energy": 0.92748, "size": 0.95266}
    for (_, cost, _), front in published.CODE_FRONTS.items():
        losses = [(1 - percent / 100, amount / published.CODE_UNCOMPRESSED[cost]) for percent, amount in front]
        assert hypervolume(losses, (1, 1)) == pytest.approx(reported[cost], abs=2e-4)
    assert published.published_result("lenet5_mnist", "size", "csr", 0.3) == "21.74 KiB, 11.0x"


def test_a_small_run_writes_its_page_and_finds_its_searches_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = importlib.import_module("paper")
    monkeypatch.setattr(paper, "TRADES", [paper.Trade("energy", "xy"), paper.Trade("size", "csr")])
    monkeypatch.setattr(paper, "SAME", {**paper.SAME, "pre_prune_step": 30})
    output = tmp_path / "page.md"
    words = ["paper.py", "--budget", "try", "--seeds", "0", "--dataset", "digits", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(output)])
    paper.main()
    page, table = output.read_text(), output.with_suffix(".csv").read_text()
    assert str(tmp_path) not in page + table
    assert (tmp_path / "page_energy.png").exists()
    rows = list(csv.DictReader(table.splitlines()))
    assert [(row["arm"], row["cost"]) for row in rows] == [
        (arm, cost) for arm in paper.ARMS for cost in ("energy", "size")
    ]
    assert all(0 < float(row["hypervolume_test"]) < 1 for row in rows)
    monkeypatch.setattr("emomc.search.run.CandidateEvaluator", None)  # whatever is measured again fails
    paper.main()
    assert output.with_suffix(".csv").read_text() == table
