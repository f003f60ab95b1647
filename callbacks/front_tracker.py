"""The course of the front over the generations."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from emomc.search_callback import SearchCallback
from emomc.search_state import Search


@dataclasses.dataclass(frozen=True)
class FrontStatistics:
    """The front at the end of one generation."""

    generation: int
    """From 1."""
    evaluations: int
    """Distinct candidates so far."""
    hypervolume: float
    """Share of the space of (error, cost / uncompressed cost, ...) below (1, 1, ...) that the front dominates, 0..1."""
    front_size: int
    """Points on the front."""
    best_accuracy: float
    """Largest validation accuracy on the front, 0..1."""


class FrontTracker(SearchCallback):
    """Computes the statistics of each generation; subclasses show them."""

    def __init__(self) -> None:
        """Begin without history."""
        self.history: list[FrontStatistics] = []
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """Time since the search started."""
        return time.monotonic() - self._started

    def on_search_start(self, search: Search) -> None:
        """Forget an earlier search."""
        self.history = []
        self._started = time.monotonic()

    def on_generation_end(self, search: Search) -> None:
        """Compute this generation's statistics and show them."""
        front = search.front
        statistics = FrontStatistics(
            generation=search.generation,
            evaluations=len(search.candidates),
            hypervolume=search.hypervolume,
            front_size=len(front),
            best_accuracy=max((candidate.accuracy for candidate in front), default=0.0),
        )
        self.history.append(statistics)
        self.show(search, statistics)

    def show(self, search: Search, statistics: FrontStatistics) -> None:
        """Show the newest statistics; this class shows nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain values."""
        return {"history": [dataclasses.asdict(statistics) for statistics in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a history from ``state_dict``."""
        self.history = [FrontStatistics(**values) for values in state_dict["history"]]
