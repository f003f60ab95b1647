"""How often an access is needed, by the weights that it serves."""

from __future__ import annotations

import numpy as np
import pytest

from emomc.hardware.description import Memory
from emomc.hardware.traffic import AccessProbability, Flow

DENSITY = np.random.default_rng(0).random((200, 3))
DENSITY[0], DENSITY[1], DENSITY[2] = 0, 1, 1e-12


def test_one_weight_is_there_as_often_as_the_density_says() -> None:
    np.testing.assert_array_equal(AccessProbability(DENSITY).of(np.ones(3)), DENSITY)


def test_some_weights_are_all_zero_by_chance() -> None:
    found = AccessProbability(DENSITY).of(np.array([1.0, 2.0, 7.5]))
    np.testing.assert_allclose(found, 1 - (1 - DENSITY) ** np.array([1.0, 2.0, 7.5]), rtol=1e-3)
    assert found[2].tolist() == pytest.approx([1e-12, 2e-12, 7.5e-12], rel=1e-9)


@pytest.mark.parametrize("groups", [[np.inf] * 3, [2.0, np.inf, 1.0]])
def test_an_access_for_everyone_is_always_needed(groups: list[float]) -> None:
    group = np.array(groups)
    found = np.broadcast_to(AccessProbability(DENSITY).of(group), DENSITY.shape)
    assert (found[:, np.isinf(group)] == 1).all()
    finite = ~np.isinf(group)
    np.testing.assert_allclose(found[:, finite], 1 - (1 - DENSITY[:, finite]) ** group[finite], rtol=1e-3)


def test_reads_and_writes_cost_their_words() -> None:
    memory = Memory("buffer", ("I", "O"), 16, 2.0, 3.0)
    assert Flow(memory, "I", 8.0).energy == 1.0
    assert Flow(memory, "O", 8.0, 32.0).energy == 7.0
    np.testing.assert_array_equal(Flow(memory, "O", 0.0, np.array([16.0, 32.0])).energy, [3.0, 6.0])
