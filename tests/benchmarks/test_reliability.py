"""The 50 kills of ``make soak``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reliability.py"


@pytest.fixture(scope="module")
def reliability():
    spec = importlib.util.spec_from_file_location("benchmarks_reliability", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_same_bytes_after_50_kills(reliability, tmp_path):
    rows = reliability.kills(50, 1, tmp_path)
    assert [row.split("|")[-2].strip() for row in rows] == ["equal", "equal"]


def test_growing_memory_is_noticed(reliability, monkeypatch):
    sizes = iter([100, 104, 103, 104, 120])
    monkeypatch.setattr(reliability, "resident_mib", lambda: next(sizes))
    memory = reliability.Memory("steps", warm_up=2)
    for step in range(1, 5):
        memory.note(step)
    assert memory.row() == "| 4 steps | 2 | 104 | 104 | +0.0% |"
    memory.note(5)
    with pytest.raises(reliability.Failure, match=r"over 5 steps grew by 15\.4 %"):
        memory.row()


def test_what_stands_outside_of_the_marks_stays(reliability):
    text = f"# Title\n{reliability.BEGIN}old\n{reliability.END}\nrest\n"
    expected = f"# Title\n{reliability.BEGIN}new\n{reliability.END}\nrest\n"
    assert reliability.put_between_marks(text, "new\n") == expected
