"""The result of evaluating a candidate on a set of images."""

from __future__ import annotations

import dataclasses

from emomc.common.errors import is_whole, require


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a candidate on a set of images."""

    correct: int
    """Images classified correctly among those seen."""
    seen: int
    """Images evaluated so far."""
    images: int
    """Images in the set."""

    def __post_init__(self) -> None:
        """Check the counts, which may come from a log.

        Raises:
            UserError: they are not whole numbers with correct <= seen <= images.
        """
        counts = (self.correct, self.seen, self.images)
        whole = all(is_whole(count, 0) for count in counts)
        require(whole and self.correct <= self.seen <= self.images, "correct <= seen <= images", counts)

    @property
    def complete(self) -> bool:
        """Whether every image was seen."""
        return self.seen == self.images

    @property
    def most_correct(self) -> int:
        """Images classified correctly if all that are left are classified correctly."""
        return self.correct + self.images - self.seen

    @property
    def accuracy(self) -> float:
        """Fraction classified correctly, 0..1; an upper bound while images are left."""
        return self.most_correct / self.images
