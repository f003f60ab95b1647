"""The 50 kills of ``make soak``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.quality import reliability


@pytest.mark.slow
def test_same_bytes_after_50_kills(tmp_path):
    # In a process of its own with one thread: it forks, and a fork of a process with threads may hang.
    kills = f"reliability.kills(50, 1, pathlib.Path({str(tmp_path)!r}))"
    code = f"import pathlib; from benchmarks.quality import reliability; print(*(row[-1] for row in {kills}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "equal equal"


def test_growing_memory_is_noticed(monkeypatch):
    sizes = iter([100, 104, 103, 104, 120])
    monkeypatch.setattr(reliability, "resident_mib", lambda: next(sizes))
    memory = reliability.Memory("steps", warm_up=2)
    for step in range(1, 5):
        memory.note(step)
    assert memory.row() == ["4 steps", "2", "104", "104", "+0.0%"]
    memory.note(5)
    with pytest.raises(reliability.Failure, match=r"over 5 steps grew by 15\.4 %"):
        memory.row()
