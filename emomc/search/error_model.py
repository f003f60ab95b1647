"""Predict the error of a candidate from its level's error and its quantization noise."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from threadpoolctl import ThreadpoolController

FloatArray = NDArray[np.float64]

# A sum of noise-to-signal ratios of 0.1 costs 0.8 points of accuracy, of 0.5 nearly 9: seen for LeNet-5 on MNIST.
_DAMAGE, _POWER, _MOST = 0.25, 1.5, 0.9
# How many standard deviations below its mean a prediction lies.
_OPTIMISM = 2.0
_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_VARIANCES = (1e-3, 1e-2, 1e-1)
# The model learns from this many errors, the latest; its time grows with their cube.
_MEMORY = 300


def rough_error(level_errors: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the error that is expected before any candidate is evaluated.

    To a first approximation, the noise-to-signal ratios of the layers' weights and inputs add up at the output of the
    network.

    Source: Lin et al., "Fixed Point Quantization of Deep Convolutional Networks", ICML 2016; how many answers are
    wrong because of this noise is a rule of thumb.

    Args:
        level_errors: (n,), 0..1, of the level without quantization.
        noise: (n, layers) or, with that of inputs, (n, 2 layers): ratios of squares.

    Returns:
        (n,), 0..1; it grows with either.
    """
    share = np.minimum(_MOST, _DAMAGE * noise.sum(axis=1) ** _POWER)
    expected: FloatArray = level_errors + (1 - level_errors) * share
    return expected


class ErrorModel:
    """A Gaussian process that learns by which factor errors differ from ``rough_error``.

    Its inputs are the amplitude of each layer's noise and the logarithm of the level's error. They have the same
    meaning in every network, so that one length scale fits all. It is chosen among few, by the likelihood: a search by
    gradients could end elsewhere on another machine.

    Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4.2 and 5.4.
    """

    def __init__(self, images: int) -> None:
        """Make a model that knows nothing; ``images`` is the number that errors are measured on."""
        self._least = 1 / images
        self._process: GaussianProcessRegressor | None = None
        # Looking for the libraries takes longer than a prediction.
        self._libraries = ThreadpoolController()

    def learn(self, level_errors: FloatArray, noise: FloatArray, errors: FloatArray) -> None:
        """Learn from measured errors, shape (n,), in the order of measurement; what was learned before is dropped."""
        rows = slice(-_MEMORY, None)
        level_errors, noise, errors = level_errors[rows], noise[rows], errors[rows]
        factors = np.log(errors + self._least) - self._rough(level_errors, noise)
        inputs = self._inputs(level_errors, noise)
        with self._one_thread():
            fitted = [
                GaussianProcessRegressor(Matern(length, nu=2.5), alpha=variance, optimizer=None, normalize_y=True).fit(
                    inputs, factors
                )
                for length in _LENGTHS
                for variance in _VARIANCES
            ]
        self._process = max(fitted, key=lambda process: round(process.log_marginal_likelihood_value_, 6))

    def expected(self, level_errors: FloatArray, noise: FloatArray) -> FloatArray:
        """Return the errors that are expected, (n,), 0..1."""
        return self._predict(level_errors, noise, deviations=0.0)

    def optimistic(self, level_errors: FloatArray, noise: FloatArray) -> FloatArray:
        """Return errors that candidates may well have, (n,); below what is expected where little is known."""
        return self._predict(level_errors, noise, deviations=-_OPTIMISM)

    def _predict(self, level_errors: FloatArray, noise: FloatArray, *, deviations: float) -> FloatArray:
        factors = self._rough(level_errors, noise)
        if self._process is not None:
            with self._one_thread():
                mean, deviation = self._process.predict(self._inputs(level_errors, noise), return_std=True)
            factors = factors + mean + deviations * deviation
        return np.clip(np.exp(factors) - self._least, 0.0, 1.0)

    def _rough(self, level_errors: FloatArray, noise: FloatArray) -> FloatArray:
        logarithms: FloatArray = np.log(rough_error(level_errors, noise) + self._least)
        return logarithms

    def _inputs(self, level_errors: FloatArray, noise: FloatArray) -> FloatArray:
        return np.column_stack([np.sqrt(noise), np.log(level_errors + self._least)])

    def _one_thread(self) -> AbstractContextManager[object]:
        """Sum in one order, so that the same search decides the same with any number of threads."""
        return self._libraries.limit(limits=1, user_api="blas")
