from __future__ import annotations

import csv
import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.paper import __main__ as paper
from benchmarks.paper import experiments
from benchmarks.paper.outcomes import Trade


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Attempting to set identical low and high ylims")
def test_the_budget_of_a_gpu_rehearsed_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but the GPU: few images, a narrow network and few generations."""
    images = tmp_path / "few"
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 3)):
        for label in ("one", "two"):
            folder = images / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    archive = shutil.make_archive(str(tmp_path / "images"), "xztar", tmp_path, "few")
    quick = dataclasses.replace(
        experiments.GPU,
        number_generations=1,
        stage_one={arm: {"pre_train_epochs": 1, "pre_prune_epochs": 1} for arm in experiments.ARMS},
        search_precision="32-true",
    )
    monkeypatch.setitem(experiments.BUDGETS["vgg16_cifar10"], "gpu", quick)
    output = tmp_path / "page.md"
    words = ["paper", "--experiment", "vgg16_cifar10", "--budget", "gpu", "--archive", archive]
    words += ["--network_args", '{"width": 0.0625}', "--accelerator", "cpu", "--precision", "32-true"]
    monkeypatch.setattr(sys, "argv", [*words, "--runs", str(tmp_path / "runs"), "--output", str(output), "--minutes"])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "9"])
    paper.main()
    rows = list(csv.DictReader(output.with_suffix(".csv").read_text().splitlines()))
    assert [row["arm"] for row in rows] == ["emomc"] * 7 + ["reference"] * 7
    assert [row["variant"] for row in rows[7:9]] == ["xy", "csr"]
    assert "| vgg16_cifar10 reference levels |" in output.read_text()
    written = output.stat().st_mtime_ns
    paper.main()  # all searches are on the page
    assert output.stat().st_mtime_ns == written


def test_no_part_is_begun_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["paper", "--budget", "try", "--dataset", "digits", "--runs", str(tmp_path), "--minutes", "0"]
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(tmp_path / "page.md")])
    paper.main()
    assert "The time is up: lenet5_mnist reference dense network is not begun: 0 s are left" in capsys.readouterr().out
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_a_small_run_writes_its_page_and_finds_its_searches_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "TRADES", [Trade("energy", "xy"), Trade("size", "csr")])
    monkeypatch.setattr(experiments, "SAME", {**experiments.SAME, "pre_prune_step": 30})
    output = tmp_path / "page.md"
    words = ["paper", "--budget", "try", "--seeds", "0", "--dataset", "digits", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(output)])
    paper.main()
    page, table = output.read_text(), output.with_suffix(".csv").read_text()
    assert str(tmp_path) not in page + table
    assert (tmp_path / "page_energy.png").exists()
    rows = list(csv.DictReader(table.splitlines()))
    assert [(row["arm"], row["cost"]) for row in rows] == [
        (arm, cost) for arm in experiments.ARMS for cost in ("energy", "size")
    ]
    assert all(0 < float(row["hypervolume_test"]) < 1 for row in rows)
    monkeypatch.setattr("emomc.search.image_task.CandidateEvaluator", None)  # whatever is measured again fails
    paper.main()
    assert output.with_suffix(".csv").read_text() == table
