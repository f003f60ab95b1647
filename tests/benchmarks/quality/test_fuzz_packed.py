from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.quality import fuzz_packed

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


def test_mutated_files_are_refused_or_read_alike_in_python_and_in_c(tmp_path: Path) -> None:
    page = fuzz_packed.run(files=60, seed=1, folder=tmp_path)
    assert "60 files made from" in page
    (compared,) = [line for line in page.splitlines() if "files were compared" in line]
    assert not compared.startswith("0 files")
