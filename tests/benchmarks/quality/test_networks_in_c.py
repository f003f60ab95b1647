from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.quality import networks_in_c

missing = [program for program in ("cc", "size") if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing} on this machine")


@pytest.mark.slow
def test_a_network_has_the_memory_of_its_header_and_the_classes_of_python(tmp_path: Path) -> None:
    name, weights, ram, flash, deviation, others, _ = networks_in_c.row("lenet5", 40, tmp_path)
    assert (name, weights, ram) == ("lenet5", "61,470", "23,520")
    assert int(flash.replace(",", "")) < 61_470
    assert float(deviation) < 1e-5
    assert others in ("0 of 40", "1 of 40")
