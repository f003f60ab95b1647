"""Which candidates to fine-tune next: those from which fine-tuning is expected to gain most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.common.pareto import most_volume
from emomc.search.state import Candidate, Search

FloatArray = NDArray[np.float64]

# What is expected before anything was fine-tuned: four fifths of what quantization lost comes back. It counts as much
# as so many fine-tuned points that lost so much.
_KEPT_LOSS, _PRIOR_POINTS, _PRIOR_LOSS = 0.2, 2.0, 0.05


class Promise:
    """Predicts the accuracy of a candidate after fine-tuning, from those that were fine-tuned before.

    The candidate's level, not quantized, has the accuracy a; quantization loses g. After fine-tuning, a + b - s g is
    expected, with b and s fitted by least squares to what was fine-tuned so far, starting from b = 0 and s = 0.2.
    """

    def __init__(self) -> None:
        """Start without any fine-tuned candidate."""
        self._lost: list[float] = []
        self._gained: list[float] = []

    def learn(self, level: float, before: float, after: float) -> None:
        """Take the accuracies, 0..1, of a level, of a candidate of it, and of the fine-tuned candidate."""
        self._lost.append(max(0.0, level - before))
        self._gained.append(after - level)

    def predict(self, level: FloatArray, before: FloatArray) -> FloatArray:
        """Return accuracies after fine-tuning, 0..1, of the same shape as the accuracies before."""
        offset, slope = self._fit()
        predicted: FloatArray = np.clip(level + offset - slope * np.maximum(0, level - before), 0, 1)
        return predicted

    def _fit(self) -> tuple[float, float]:
        lost, gained = np.array(self._lost), np.array(self._gained)
        # Ridge regression around the start values.
        design = np.stack([np.ones_like(lost), -lost], axis=1)
        weight = np.diag([_PRIOR_POINTS, _PRIOR_POINTS * _PRIOR_LOSS**2])
        residual = gained + _KEPT_LOSS * lost
        offset, extra = np.linalg.solve(design.T @ design + weight, design.T @ residual)
        return float(offset), float(np.clip(_KEPT_LOSS + extra, 0, 1))


def most_promising(search: Search, promise: Promise, done: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return the candidates whose fine-tuning is expected to add most to the front, the most promising first.

    Each is chosen as if those chosen before it had become what they promise.

    Args:
        search: after its last generation.
        promise: what fine-tuning is expected to give.
        done: candidates that were fine-tuned already.
        count: candidates to return at most; fewer if no other would add anything.
    """
    tried = set(map(id, done))
    rows = [
        candidate
        for candidate in search.candidates
        if not candidate.violation
        and candidate.evaluation is not None
        and not candidate.genotype.finetuned
        and id(candidate) not in tried
    ]
    if not rows:
        return []
    levels = np.array([search.level_accuracy(candidate.genotype.level) for candidate in rows])
    promised = search.normalised_losses(rows)
    promised[:, 0] = 1 - promise.predict(levels, np.array([candidate.accuracy for candidate in rows]))
    front = search.normalised_losses(search.front)
    chosen = []
    for row in most_volume(promised, count, [1.0] * front.shape[1], known=front):
        # What the front, or one chosen before, is expected to dominate adds nothing.
        if not (front <= promised[row]).all(axis=1).any():
            chosen.append(rows[row])
            front = np.vstack([front, promised[row]])
    return chosen
