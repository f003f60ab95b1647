"""The search as plain lines."""

from __future__ import annotations

from emomc.callbacks.search.front_tracker import FrontStatistics, FrontTracker
from emomc.search.state import Search


class FrontLines(FrontTracker):
    """Prints one plain line per generation, for where there is no terminal."""

    def show(self, search: Search, statistics: FrontStatistics) -> None:
        """Print the line of a generation."""
        left = self.seconds_left(search) if statistics.generation < search.config.number_generations else None
        print(
            f"generation {statistics.generation}/{search.config.number_generations}: "
            f"{self.hypervolume_text}, front {statistics.front_size}, "
            f"best accuracy {100 * statistics.best_accuracy:.2f} %, "
            f"measured {search.tally.measured}, reused {search.tally.reused}, stopped early {search.rejected}, "
            f"{self.seconds:.0f} s" + (f", {left:.0f} s left" if left is not None else ""),
            flush=True,
        )
