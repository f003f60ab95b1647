from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.quality import networks_in_c

missing = [program for program in ("cc", "size") if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing} on this machine")


@pytest.mark.slow
def test_a_network_has_the_memory_of_its_header_and_the_classes_of_python(tmp_path: Path) -> None:
    name, weights, *both = networks_in_c.row("lenet5", 40, tmp_path)
    assert (name, weights) == ("lenet5", "61,470")
    assert both[:2] == ["23,696", "9,040 (2.6x less)"]
    assert all(int(flash.replace(",", "")) < 61_470 for flash in both[2:4])
    assert all(float(deviation) < 1e-5 for deviation in both[4:6])
    assert all(others in ("0 of 40", "1 of 40") for others in both[6:8])
