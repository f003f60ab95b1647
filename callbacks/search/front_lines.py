"""An observer that prints the progress of a search as plain lines."""

from __future__ import annotations

from emomc.callbacks.search.pace import Pace, hypervolume_text
from emomc.search.observer import SearchCallback
from emomc.search.state import Search


class FrontLines(SearchCallback):
    """Prints one line per generation and phase, for output that is not a terminal."""

    def __init__(self) -> None:
        """Start the clock, so that the observer can also be used on a search that has already started."""
        self._pace = Pace()

    def on_search_start(self, search: Search) -> None:
        """Restart the clock."""
        self._pace = Pace()

    def on_generation_end(self, search: Search) -> None:
        """Print the line of the generation."""
        self._pace.end_generation()
        last, generations = search.history[-1], search.config.number_generations
        left = self._pace.seconds_left(search) if last.generation < generations else None
        print(
            f"generation {last.generation}/{generations}: "
            f"{hypervolume_text(search)}, front {last.front_size}, "
            f"best {search.metric.name} {search.metric.text(last.best_accuracy)}, "
            f"measured {search.tally.measured}, reused {search.tally.reused}, stopped early {search.rejected}, "
            f"{self._pace.seconds:.0f} s" + (f", {left:.0f} s left" if left is not None else ""),
            flush=True,
        )

    def on_phase_start(self, search: Search) -> None:
        """Print the phase."""
        print(f"{search.phase.value}: {search.points_of_phase} points", flush=True)
