from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality import cost_vs_zigzag as benchmark
from benchmarks.quality import zigzag_runs as runs
from emomc.networks.layers import LayerCall, LayerShape


def test_rank_correlation_lets_close_values_share_a_rank() -> None:
    rank_correlation = benchmark.rank_correlation
    rising = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising + 10) == pytest.approx(-1)
    assert rank_correlation(rising, np.array([1.0, 2.0, 2.01, 4.0])) == pytest.approx(0.9486832980505138)
    assert rank_correlation(np.ones(4), rising) is None


def test_zigzag_is_told_the_layer_as_it_is() -> None:
    layer = LayerShape("conv", "conv", 6, 12, (LayerCall((9, 8), (5, 4)),), (3, 5), (2, 2), (1, 1), 3)
    extents = runs.zigzag_extents(layer)
    assert extents == {"G": 3, "K": 4, "C": 2, "OY": 5, "OX": 4, "FY": 3, "FX": 5}
    (workload,) = runs.zigzag_workload(layer, extents, benchmark.HARDWARE["registers 0.1"])
    assert workload["dimension_relations"] == ["ix=2*ox+1*fx", "iy=2*oy+1*fy"]
    # Columns reach over 2*3 + 4 + 1 = 11 of 8, rows over 2*4 + 2 + 1 = 11 of 9.
    assert (workload["pr_loop_sizes"], workload["padding"]) == ([8, 9], [[2, 1], [1, 1]])
    target = benchmark.HARDWARE["registers 0.1, DRAM"]
    accelerator = runs.zigzag_accelerator(target, extents, "xfx")
    assert list(accelerator["memories"]) == [
        "register_I1",
        "register_I2",
        "register_O",
        "buffer_I1_I2_O",
        "dram_I1_I2_O",
    ]
    assert runs.zigzag_mapping(target, extents, "xfx")[0]["spatial_mapping"] == {"D1": ["OX, 4"], "D2": ["FX, 5"]}
