"""The search as a live table in a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from emomc.callbacks.front_tracker import FrontStatistics, FrontTracker
from emomc.search_state import Candidate, Search

# Layers whose bits fit a table of 80 columns one by one.
_MOST_BITS_SHOWN = 7


class RichFrontTable(FrontTracker):
    """Shows progress, counts and the current front, redrawn after each candidate; no taller than the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        """Take the console; rich's own choice if None."""
        super().__init__()
        self.console = console or Console()
        self._progress = Progress(
            TextColumn("generation {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(None),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
        )
        self._task: TaskID | None = None
        self._live: Live | None = None

    def on_search_start(self, search: Search) -> None:
        """Draw the first view."""
        super().on_search_start(search)
        self._task = self._progress.add_task("search", total=search.config.number_generations)
        self._live = Live(self.view(search), console=self.console, refresh_per_second=4, transient=True)
        self._live.start()

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        """Redraw the counts."""
        if self._live is not None and self.history:
            self._live.update(self.view(search))

    def show(self, search: Search, statistics: FrontStatistics) -> None:
        """Move the progress bar and redraw."""
        if self._task is not None:
            self._progress.update(self._task, completed=statistics.generation)
        if self._live is not None:
            self._live.update(self.view(search))

    def on_search_end(self, search: Search) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def view(self, search: Search) -> RenderableType:
        """Return progress, counts and front of a search."""
        tally = search.tally
        lines = []
        if self.history:
            now = self.history[-1]
            change = now.hypervolume - (self.history[-2].hypervolume if len(self.history) > 1 else 0.0)
            lines.append(
                f"hypervolume {now.hypervolume:.5f} ({change:+.5f})   best accuracy {100 * now.best_accuracy:.2f} %"
            )
        pace = self.seconds / tally.measured if tally.measured else 0.0
        lines.append(
            f"measured {tally.measured}   reused {tally.reused}   stopped early {search.rejected}   "
            f"{pace:.3f} s per candidate"
        )
        # Progress, the lines, and what a table draws besides its rows.
        room = max(3, self.console.size.height - len(lines) - 8)
        return Group(self._progress, Text("\n".join(lines)), front_table(search, room))


def front_table(search: Search, rows: int | None = None) -> Table:
    """Return the front as a table that fits 80 columns, thinned evenly to ``rows`` points; all of them if None."""
    front = search.front
    shown = _thin(front, rows)
    title = f"front: {len(front)} points" + (f", {len(shown)} shown" if len(shown) < len(front) else "")
    table = Table(title=title, title_justify="left")
    tested = any(candidate.test for candidate in front)
    energy = search.cost_model.columns["energy"]
    headers = [
        "point",
        "val. %",
        *(["test %"] if tested else []),
        search.cost_model.hardware.energy_label,
        "x",
        "KiB",
        "x",
    ]
    headers += ["level %", "bits"]
    for header in headers:
        table.add_column(header, justify="left" if header == "bits" else "right", no_wrap=True, overflow="ellipsis")
    for candidate in shown:
        accuracies = [f"{100 * candidate.accuracy:.2f}"]
        if tested:
            accuracies.append(f"{100 * candidate.test.accuracy:.2f}" if candidate.test else "")
        costs = [
            text
            for name in (energy, "size_kib")
            for text in (f"{candidate.costs[name]:.4g}", f"{search.uncompressed[name] / candidate.costs[name]:.1f}")
        ]
        bits = _shortened(candidate.genotype.bits)
        table.add_row(str(candidate.index), *accuracies, *costs, str(candidate.genotype.level), bits)
    return table


def _shortened(bits: tuple[int, ...]) -> str:
    """Return the bits of each layer, or of many layers their range and mean."""
    if len(bits) <= _MOST_BITS_SHOWN:
        return " ".join(map(str, bits))
    return f"{min(bits)}..{max(bits)}, mean {sum(bits) / len(bits):.1f}"


def _thin(front: list[Candidate], rows: int | None) -> list[Candidate]:
    if rows is None or len(front) <= rows:
        return front
    return [front[round(i * (len(front) - 1) / (rows - 1))] for i in range(rows)]
