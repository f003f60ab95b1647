from __future__ import annotations

import pytest

from benchmarks.paper.published import CODE_FRONTS, CODE_UNCOMPRESSED, published_result
from emomc.common.pareto import hypervolume


def test_fronts_of_the_published_code_cover_what_its_run_reported() -> None:
    reported = {"energy": 0.92748, "size": 0.95266}
    for (_, cost, _), front in CODE_FRONTS.items():
        losses = [(1 - percent / 100, amount / CODE_UNCOMPRESSED[cost]) for percent, amount in front]
        assert hypervolume(losses, (1, 1)) == pytest.approx(reported[cost], abs=2e-4)
    assert published_result("lenet5_mnist", "size", "csr", 0.3) == "21.74 KiB, 11.0x"
