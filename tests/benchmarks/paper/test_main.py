from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from benchmarks.paper import __main__ as paper
from benchmarks.paper import experiments
from benchmarks.paper.outcomes import Trade


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
    monkeypatch.setattr("emomc.search.run.CandidateEvaluator", None)  # whatever is measured again fails
    paper.main()
    assert output.with_suffix(".csv").read_text() == table
