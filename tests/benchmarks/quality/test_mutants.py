"""The mutation test: it finds what is not tested, and leaves out what cannot matter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# The second branch has no test; what is on the other lines cannot matter.
MODULE = """
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    WIDTH = 1 + 1


def sign(number: int | float, *, text: str | None = None) -> int:
    if number > 0:
        return 1
    if number < -9:
        return -1
    if text:
        raise ValueError(f"{1 + 2}")
    return 0
"""
TEST = """
import pytest
from tiny import sign


def test_sign():
    assert [sign(-9), sign(0), sign(1), sign(2)] == [0, 0, 1, 1]
    with pytest.raises(ValueError):
        sign(0, text="text")
"""


@pytest.mark.slow
def test_survivors_are_what_is_not_tested(tmp_path):
    (tmp_path / "tiny.py").write_text(MODULE)
    (tmp_path / "test_tiny.py").write_text(TEST)
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality.mutants", "--file", "tiny.py", "--tests", "test_tiny.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    rows = [line.split(" | ") for line in ran.stdout.splitlines() if line.startswith("| `tiny.py`:")]
    assert {(before, after) for _, before, after, _ in rows} == {
        ("`if number < -9:`", "`if number < -10:`"),
        ("`return -1`", "`return 1`"),
        ("`return -1`", "`return -2`"),
        ("`return -1`", "`return -0`"),
    }
    assert all(reason == "no test notices it |" for *_, reason in rows)
