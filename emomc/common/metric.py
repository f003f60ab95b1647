"""The number that a validation gives: its name, its direction and its range."""

from __future__ import annotations

import dataclasses
from typing import Literal

from emomc.common.errors import UserError

Mode = Literal["max", "min"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that says how well a network does its task.

    Metrics have units and directions of their own. The search compares networks by their *quality*: 0 at the worse end
    of the metric's range and 1 at the better one. A value beyond the range has a quality beyond 0..1.

    Raises:
        UserError: the range is empty.
    """

    name: str
    """As it is logged, such as ``val/iou``."""
    mode: Mode
    """Whether a larger (max) or a smaller (min) value is better."""
    low: float
    """Lower end of the range."""
    high: float
    """Upper end of the range."""
    percent: bool = False
    """Whether its values are shares that are shown in percent."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(
                f"expected a range of {self.name} with a lower and an upper end, found {self.low:g} and {self.high:g}"
            )

    @property
    def worst(self) -> float:
        """The value of quality 0."""
        return self.low if self.mode == "max" else self.high

    @property
    def best(self) -> float:
        """The value of quality 1."""
        return self.high if self.mode == "max" else self.low

    def quality(self, value: float) -> float:
        """Return where a value lies between the worst and the best."""
        return (value - self.worst) / (self.best - self.worst)

    def value(self, quality: float) -> float:
        """Return the value of a quality."""
        return self.worst + quality * (self.best - self.worst)

    def text(self, quality: float) -> str:
        """Return the value of a quality as a short text: 97.22 %, or 0.8123."""
        return f"{100 * quality:.2f} %" if self.percent else f"{self.value(quality):.4g}"


ACCURACY = Metric("accuracy", "max", 0.0, 1.0, percent=True)
"""Share of the images classified correctly: its quality is itself."""
