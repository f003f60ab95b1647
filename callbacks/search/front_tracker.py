"""The course of the front over the generations."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from emomc.search.observer import SearchCallback
from emomc.search.state import Candidate, Search

# Generations over which the pace is averaged.
_PACE_OVER = 10


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
        self._ends: list[float] = []
        self._measured: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        """Time since the search started."""
        return time.monotonic() - self._started

    @property
    def seconds_per_candidate(self) -> float | None:
        """Mean time for a candidate that was run over images; None before the first."""
        if self._measured is None:
            return None
        candidates, seconds = self._measured
        return seconds / candidates

    @property
    def last_change(self) -> float | None:
        """What the last generation added to the hypervolume; None in the first."""
        return self.history[-1].hypervolume - self.history[-2].hypervolume if len(self.history) > 1 else None

    @property
    def hypervolume_text(self) -> str:
        """The hypervolume, and its last change in parentheses."""
        change = "" if self.last_change is None else f" ({self.last_change:+.5f})"
        return (
            f"hypervolume {self.history[-1].hypervolume:.5f}{change}" if self.history else "hypervolume not known yet"
        )

    def seconds_left(self, search: Search) -> float | None:
        """Return the time that the generations left will take at the pace of the latest ones; None before the first."""
        if not self._ends:
            return None
        recent = [self._started, *self._ends][-_PACE_OVER - 1 :]
        pace = (recent[-1] - recent[0]) / (len(recent) - 1)
        left = search.config.number_generations - self.history[-1].generation
        return max(0.0, pace * left - (time.monotonic() - self._ends[-1]))

    def on_search_start(self, search: Search) -> None:
        """Forget an earlier search."""
        self.history = []
        self._started = time.monotonic()
        self._ends = []
        self._measured = None

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        """Note the pace."""
        if search.tally.measured:
            self._measured = search.tally.measured, self.seconds

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
        self._ends.append(time.monotonic())
        self.show(search, statistics)

    def show(self, search: Search, statistics: FrontStatistics) -> None:
        """Show the newest statistics; this class shows nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain values."""
        return {"history": [dataclasses.asdict(statistics) for statistics in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a history from ``state_dict``."""
        self.history = [FrontStatistics(**values) for values in state_dict["history"]]
