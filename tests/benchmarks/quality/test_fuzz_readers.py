"""Every reader meets damaged files in a process of its own; ``make fuzz`` does it for long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
    module = "benchmarks.quality.fuzz_readers"
    options = ["--inputs", "400", "--seconds", "0.4", "--seed", "7", "--failures", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 20
    assert all(int(row.split("|")[2]) > 0 for row in rows)
