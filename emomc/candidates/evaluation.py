"""The result of evaluating a candidate on a set of images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from emomc.common.errors import is_whole, require

if TYPE_CHECKING:
    from emomc.candidates.compressed_networks import CompressedNetworks
    from emomc.candidates.genotype import Genotype


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a candidate on a set of images."""

    correct: int | float
    """Images classified correctly among those seen, a whole number. Of another metric, the sum of the qualities of the
    samples seen: see ``Metric``."""
    seen: int
    """Images, or samples, evaluated so far."""
    images: int
    """Images, or samples, in the set."""
    metric: float | None = None
    """Value of the metric of a user's task, over the samples seen; None: the accuracy counts."""

    def __post_init__(self) -> None:
        """Check the counts, which may come from a log.

        Raises:
            UserError: they are not whole numbers with correct <= seen <= images; or the metric is not finite.
        """
        if self.metric is not None:
            finite = math.isfinite(self.correct) and math.isfinite(self.metric)
            require(finite and is_whole(self.seen) and is_whole(self.images), "a finite metric", self.metric)
            require(self.seen <= self.images, "seen <= images", (self.seen, self.images))
            return
        counts = (self.correct, self.seen, self.images)
        whole = all(is_whole(count, 0) for count in counts)
        require(whole and self.correct <= self.seen <= self.images, "correct <= seen <= images", counts)

    @property
    def complete(self) -> bool:
        """Whether every image was seen."""
        return self.seen == self.images

    @property
    def most_correct(self) -> float:
        """Images classified correctly if all that are left are; or the sum of qualities if all that are left have 1."""
        return self.correct + self.images - self.seen

    @property
    def accuracy(self) -> float:
        """Fraction classified correctly, 0..1, or the quality of another metric; an upper bound while some are left."""
        return self.most_correct / self.images


class Evaluator(Protocol):
    """Evaluates candidates on one device, on data held in its memory."""

    networks: CompressedNetworks
    """The library's compressed networks."""
    precision: str
    """Lightning's name of the arithmetic."""
    batch_size: int
    """Samples per forward pass, at most."""
    images: int
    """Samples in the set."""

    def evaluate(
        self,
        genotype: Genotype,
        *,
        previous: Evaluation | None = None,
        required_correct: float = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Evaluation:
        """Evaluate a candidate.

        Args:
            genotype: the candidate.
            previous: an earlier evaluation that was stopped; only its remaining samples are evaluated.
            required_correct: stop once ``Evaluation.correct`` can no longer reach this; 0: never.
            stopped: asked before each batch; once it returns True, the evaluation ends without a result.

        Raises:
            Stopped: ``stopped`` returned True.
        """
