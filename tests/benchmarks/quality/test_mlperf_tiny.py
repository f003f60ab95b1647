"""The reference networks of MLPerf Tiny have the sizes that are published."""

from __future__ import annotations

import pytest

from benchmarks.quality.mlperf_tiny import SUBMISSIONS, estimated_ms

# Multiply-accumulates of the reference networks.
MACS = {
    "image classification": 12_501_632,
    "keyword spotting": 2_656_768,
    "visual wake words": 7_489_664,
    "anomaly detection": 264_192,
}


@pytest.mark.parametrize("task", MACS)
def test_the_estimate_is_within_a_quarter_of_what_its_speed_comes_from(task: str) -> None:
    macs, ms = estimated_ms("cortex_m4_cmsis_nn", task)
    assert macs == MACS[task]
    published = 1000 / SUBMISSIONS[0].inferences[[*MACS].index(task)]
    assert ms == pytest.approx(published, rel=0.01 if task == "image classification" else 0.25)
