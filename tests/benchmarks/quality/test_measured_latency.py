"""Sums of a table beside whole networks, with few and short runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import measured_latency as benchmark
from emomc.export.layer_latency import Timing


@pytest.mark.filterwarnings("ignore::emomc.common.errors.UserNote")
def test_random_networks_are_predicted_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "INPUTS", {"8": (8, 8)})
    timing = Timing(seconds=0.001, rounds=1, clock="processor")
    (found,) = benchmark.compare("lenet5", 2, timing, tmp_path)
    assert np.all(found.predicted > 0)
    assert np.all(found.measured > 0)
    assert found.cells[:2] == ["lenet5", "8"]


def test_equal_orders_have_a_correlation_of_one() -> None:
    times = np.array([3.0, 1.0, 2.0])
    assert benchmark.Compared("a", "8", times, times**3).correlation == pytest.approx(1)
    assert benchmark.Compared("a", "8", times, -times).correlation == pytest.approx(-1)
