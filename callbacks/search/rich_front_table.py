"""An observer that shows a search as a live table in a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from emomc.callbacks.search.pace import Pace, hypervolume_text
from emomc.fronts.report.terminal import FrontTable
from emomc.search.observer import SearchCallback
from emomc.search.state import Candidate, Phase, Search

# Lines of the view besides the points: progress, two lines of counts, title, header, uncompressed network, cursor.
_OTHER_LINES = 7
_SECONDS_BETWEEN_FRONTS = 1.0


class RichFrontTable(SearchCallback):
    """Shows progress, remaining time, counts and the current front, within the height of the terminal.

    Counts and time are refreshed four times a second, the front at most once a second.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Store the console; rich's default console if None."""
        self.console = console or Console(markup=False)
        self._pace = Pace()
        self._live: Live | None = None
        self._front: FrontTable | None = None
        self._drawn = 0.0

    def on_search_start(self, search: Search) -> None:
        """Draw the first view."""
        self._pace = Pace()
        self._draw(search)
        self._live = Live(
            console=self.console, refresh_per_second=4, transient=True, get_renderable=lambda: self.view(search)
        )
        self._live.start()

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        """Redraw the front if the last drawing is at least a second old."""
        self._pace.end_candidate(search)
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN_FRONTS:
            self._draw(search)

    def on_generation_end(self, search: Search) -> None:
        """Redraw the front."""
        self._pace.end_generation()
        self._draw(search)

    def on_search_teardown(self, search: Search) -> None:
        """Remove the table from the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def view(self, search: Search) -> RenderableType:
        """Return progress, counts and front of a search."""
        return Group(self._progress(search), *_lines(self._counts(search)), self._front or Text(""))

    def _draw(self, search: Search) -> None:
        # Build the table here, because the display refreshes on another thread.
        self._front = FrontTable(search, max(1, self.console.size.height - _OTHER_LINES))
        self._drawn = time.monotonic()

    def _progress(self, search: Search) -> RenderableType:
        total = search.config.number_generations
        done = len(search.history)
        if search.phase is Phase.FINETUNING:
            state = f"{search.phase.value}: {len(search.finetuned)} points done"
        elif search.phase is not Phase.SEARCHING:
            state = search.phase.value
        elif (left := self._pace.seconds_left(search)) is None:
            state = "time left known after the first"
        else:
            state = f"{_clock(left)} left{', at most' if search.config.patience else ''}"
        line = Table.grid(padding=(0, 2, 0, 0), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True, justify="right")
        line.add_row(f"generation {done}/{total}", ProgressBar(total=total, completed=done), state)
        return line

    def _counts(self, search: Search) -> list[str]:
        tally = search.tally
        seconds = self._pace.seconds_per_candidate
        pace = "" if seconds is None else f"   {seconds:.3g} s per candidate"
        metric, history = search.metric, search.history
        best = f"   best {metric.name} {metric.text(history[-1].best_accuracy)}" if history else ""
        return [
            hypervolume_text(search) + best,
            f"measured {tally.measured}   reused {tally.reused}   stopped early {search.rejected}{pace}",
        ]


def _lines(texts: Iterable[str]) -> list[Text]:
    return [Text(text, no_wrap=True, overflow="ellipsis") for text in texts]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
