"""The state of a search."""

from __future__ import annotations

import pytest


def test_history_holds_each_generation_and_grows(library, search):
    result = search(library, number_generations=4)
    assert [entry.generation for entry in result.history] == [1, 2, 3, 4]
    volumes = [entry.hypervolume for entry in result.history]
    assert volumes == sorted(volumes)
    assert 0 < volumes[0] < volumes[-1] < 1
    last = result.history[-1]
    assert last.front_size == len(result.front)
    assert last.best_accuracy == max(point.accuracy for point in result.front)
    assert last.evaluations == len(result.candidates)
    # By hand for two objectives: a staircase below error 1 and cost 1, relative to the uncompressed network.
    points = sorted(
        (point.costs["energy_mj"] / result.uncompressed["energy_mj"], 1 - point.accuracy) for point in result.front
    )
    area, error_above = 0.0, 1.0
    for cost, error in points:
        area += (1 - cost) * (error_above - error)
        error_above = error
    assert volumes[-1] == pytest.approx(area)
