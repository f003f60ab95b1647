from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.speed import cost_speed


def test_vectorised_costs_equal_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "speed.md"
    # Time says nothing on a busy machine; the differences are checked at their real limit.
    arguments = ["cost_speed", "--candidates", "30", "--repeats", "1", "--limit_ms", "1e9", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    cost_speed.main()
    rows = [line for line in out.read_text().splitlines() if line.startswith(("| energy", "| size"))]
    assert len(rows) == 2 * 4 + 3
