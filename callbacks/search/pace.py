"""How fast a search goes, and how long it will still take."""

from __future__ import annotations

import time

from emomc.search.state import Search

# Generations over which the pace is averaged.
_AVERAGED_OVER = 10


class Pace:
    """A clock that an observer keeps; it starts when it is made."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()
        self._generation_ends: list[float] = []
        self._measured: tuple[int, float] | None = None

    def end_candidate(self, search: Search) -> None:
        """Note that a candidate ended."""
        if search.tally.measured:
            self._measured = search.tally.measured, self.seconds

    def end_generation(self) -> None:
        """Note that a generation ended."""
        self._generation_ends.append(time.monotonic())

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started

    @property
    def seconds_per_candidate(self) -> float | None:
        """Mean time for a candidate that was run over images; None before the first."""
        if self._measured is None:
            return None
        candidates, seconds = self._measured
        return seconds / candidates

    def seconds_left(self, search: Search) -> float | None:
        """Return the time that the generations left will take at the pace of the latest ones; None before the first."""
        if not self._generation_ends:
            return None
        recent = [self._started, *self._generation_ends][-_AVERAGED_OVER - 1 :]
        pace = (recent[-1] - recent[0]) / (len(recent) - 1)
        left = search.config.number_generations - len(search.history)
        return max(0.0, pace * left - (time.monotonic() - self._generation_ends[-1]))


def hypervolume_text(search: Search) -> str:
    """Return the hypervolume at the end of the last generation, and what that generation added to it."""
    if not search.history:
        return "hypervolume not known yet"
    *earlier, last = [entry.hypervolume for entry in search.history]
    change = f" ({last - earlier[-1]:+.5f})" if earlier else ""
    return f"hypervolume {last:.5f}{change}"
