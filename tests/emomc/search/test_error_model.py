"""The model of the error: sensible before it has learned, close to what it has learned, optimistic elsewhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emomc.search.error_model import ErrorModel, rough_error

IMAGES = 6000
shares = st.floats(0, 1)


def landscape(random, count, layers=5):
    """Candidates of a network whose layers differ in how much noise they tolerate."""
    level_errors = random.choice([0.006, 0.008, 0.02, 0.07, 0.3], count)
    noise = 10 ** random.uniform(-5, -0.3, (count, layers))
    harm = (noise**0.8 * np.linspace(0.05, 0.6, layers)).sum(axis=1)
    return level_errors, noise, 1 - (1 - level_errors) * np.exp(-harm)


def log_error(found, true):
    return float(np.sqrt(np.mean(np.log(found / true) ** 2)))


class TestRoughError:
    @given(shares, shares, st.lists(st.floats(0, 4), min_size=1, max_size=5), st.floats(0, 1))
    def test_grows_with_the_levels_error_and_the_noise_of_any_layer(self, one, other, noise, more):
        noise = np.array(noise)
        less, most = (rough_error(np.array([level]), noise[None]).item() for level in sorted([one, other]))
        assert 0 <= less <= most <= 1
        for layer in range(len(noise)):
            noisier = rough_error(np.array([one]), (noise + more * np.eye(len(noise))[layer])[None]).item()
            assert noisier >= rough_error(np.array([one]), noise[None]).item()

    def test_without_noise_is_the_levels(self):
        assert rough_error(np.array([0.25]), np.zeros((1, 3))).tolist() == [0.25]

    def test_by_hand(self):
        # The noise is 0.25 in total, to the power of 1.5 an eighth, of which a quarter is harm: 1/32 of what was right.
        assert rough_error(np.array([0.2]), np.array([[0.1, 0.15]])).item() == pytest.approx(0.2 + 0.8 / 32)


class TestErrorModel:
    def test_is_the_rough_error_before_it_has_learned(self):
        level_errors, noise, _ = landscape(np.random.default_rng(0), 50)
        found = ErrorModel(IMAGES).optimistic(level_errors, noise)
        np.testing.assert_allclose(found, rough_error(level_errors, noise), rtol=1e-9)

    @pytest.mark.parametrize("seed", range(3))
    def test_knows_more_after_it_has_learned(self, seed):
        random = np.random.default_rng(seed)
        known, others = landscape(random, 80), landscape(random, 200)
        model = ErrorModel(IMAGES)
        model.learn(*known)
        learned, true = model.optimistic(*others[:2]), others[2]
        # By how much it is too low is much the same everywhere.
        assert np.std(np.log(learned / true)) < 0.6 * np.std(np.log(rough_error(*others[:2]) / true))
        # Two standard deviations below what is expected, but the true function is not what the model assumes.
        assert np.mean(learned <= true) > 0.8
        assert ((learned >= 0) & (learned <= 1)).all()

    def test_is_less_optimistic_where_it_has_learned(self):
        level_errors, noise, errors = landscape(np.random.default_rng(1), 60)
        model = ErrorModel(IMAGES)
        model.learn(level_errors, noise, errors)
        assert log_error(model.optimistic(level_errors, noise), errors) < 0.2
        far = model.optimistic(level_errors, noise + 2.0) / rough_error(level_errors, noise + 2.0)
        near = model.optimistic(level_errors, noise) / errors
        assert np.median(far) < np.median(near)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_learns_from_few_and_from_equal_ones(self, count):
        model = ErrorModel(IMAGES)
        model.learn(np.full(count, 0.1), np.full((count, 2), 0.3), np.full(count, 0.2))
        assert model.optimistic(np.array([0.1]), np.full((1, 2), 0.3)).item() == pytest.approx(0.2, rel=0.25)

    def test_an_error_of_zero_is_no_surprise(self):
        model = ErrorModel(100)
        model.learn(np.array([0.0, 0.1]), np.zeros((2, 2)), np.array([0.0, 1.0]))
        found = model.optimistic(np.array([0.0, 0.1]), np.zeros((2, 2)))
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()

    def test_forgets_the_oldest_first(self):
        random = np.random.default_rng(2)
        old, new, others = landscape(random, 100), landscape(random, 300), landscape(random, 20)
        both, alone = ErrorModel(IMAGES), ErrorModel(IMAGES)
        both.learn(*(np.concatenate(parts) for parts in zip(old, new, strict=True)))
        alone.learn(*new)
        assert (both.optimistic(*others[:2]) == alone.optimistic(*others[:2])).all()


FORETELL = """
import numpy as np
from emomc.search.error_model import ErrorModel
random = np.random.default_rng(0)
model = ErrorModel(6000)
model.learn(random.random(250) / 10, random.random((250, 5)) / 5, random.random(250))
print(model.optimistic(random.random(400) / 10, random.random((400, 5)) / 5).tobytes().hex())
"""


def test_is_the_same_to_the_bit_with_any_number_of_threads(monkeypatch):
    found = set()
    for threads in ("1", "2", "4"):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, threads)
        found.add(subprocess.run([sys.executable, "-c", FORETELL], check=True, capture_output=True, text=True).stdout)
    assert len(found) == 1
