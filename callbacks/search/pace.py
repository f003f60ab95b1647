"""The pace of a search and its remaining time."""

from __future__ import annotations

import time

from emomc.search.state import Search

# Number of generations over which the pace is averaged.
_AVERAGED_OVER = 10


class Pace:
    """The clock of an observer; it starts when it is created."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()
        self._generation_ends: list[float] = []
        self._measured: tuple[int, float] | None = None

    def end_candidate(self, search: Search) -> None:
        """Record the end of a candidate's evaluation."""
        if search.tally.measured:
            self._measured = search.tally.measured, self.seconds

    def end_generation(self) -> None:
        """Record the end of a generation."""
        self._generation_ends.append(time.monotonic())

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def seconds_per_candidate(self) -> float | None:
        """Mean time per candidate evaluated on images; None before the first one."""
        if self._measured is None:
            return None
        candidates, seconds = self._measured
        return seconds / candidates

    def seconds_left(self, search: Search) -> float | None:
        """Return the remaining time at the pace of the last ten generations; None before the first generation ends."""
        if not self._generation_ends:
            return None
        recent = [self._started, *self._generation_ends][-_AVERAGED_OVER - 1 :]
        pace = (recent[-1] - recent[0]) / (len(recent) - 1)
        left = search.config.number_generations - len(search.history)
        return max(0.0, pace * left - (time.monotonic() - self._generation_ends[-1]))


def hypervolume_text(search: Search) -> str:
    """Return the hypervolume after the last generation, and how much that generation added."""
    if not search.history:
        return "hypervolume not known yet"
    *earlier, last = [entry.hypervolume for entry in search.history]
    change = f" ({last - earlier[-1]:+.5f})" if earlier else ""
    return f"hypervolume {last:.5f}{change}"
