"""Commands that need no tensor run without importing torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from emomc.cli.{command} import main

try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
heavy = [name for name in ("torch", "pytorch_lightning", "lightning_fabric", "matplotlib") if name in sys.modules]
print("heavy:", heavy, "status:", status or 0)
"""
WRONG = {
    "pretrain": ["--pre_prune_step", "0"],
    "search": ["--library", "nowhere", "--population_size", "1"],
    "export": ["--run", "nowhere", "--output", "x"],
}


@pytest.mark.parametrize("command", WRONG)
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["--print_config"], None])
def test_no_tensor_no_torch(command, arguments, tmp_path):
    asked = WRONG[command] if arguments is None else arguments
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(command=command), *asked],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"heavy: [] status: {2 if arguments is None else 0}", done.stderr
    assert arguments is not None or len(done.stderr.splitlines()) == 1
    assert [*tmp_path.iterdir()] == []
