"""A front as a table in a terminal, with as many columns as fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from emomc.candidates.evaluation import Evaluation
from emomc.candidates.objectives import COSTS
from emomc.common.intervals import wilson_interval
from emomc.compression.levels import label_of
from emomc.library.manifest import DENSE as DENSE_LEVEL
from emomc.search.state import Candidate, Search

DENSE = "dense"
"""Name of the row of the uncompressed network."""
_GAPS = (2, 1)


@dataclasses.dataclass(frozen=True)
class _Column:
    header: str
    cells: list[str]
    """The uncompressed network first, then one per point."""
    drop: int = 0
    """If the width is too small, columns are dropped in descending order of this; 0 is never dropped."""
    left: bool = False

    @property
    def width(self) -> int:
        return max(map(len, [self.header, *self.cells]))


class FrontTable:
    """Table of the current front of a search: the uncompressed network, then the points, most accurate first.

    The columns are: validation and, once known, test accuracy with 95 % confidence intervals; costs and their ratio to
    the uncompressed network; level; bits of each layer, or their range and mean if there are many layers, and those of
    its inputs where they are searched. If the width is too small, the least important columns are dropped.
    """

    def __init__(self, search: Search, rows: int | None = None) -> None:
        """Copy the current front.

        Args:
            search: in any state.
            rows: largest number of points to show, evenly spaced; all if None.
        """
        self._search = search
        self._front = search.front
        self._shown = _thin(self._front, rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the columns that fit the width."""
        count = len(self._front)
        title = f"front: {count} point{'' if count == 1 else 's'}"
        if len(self._shown) < count:
            title += f", {len(self._shown)} shown"
        yield Text(title, style="italic")
        if self._shown:
            yield self._table(*_fitting(self._columns(), self._bits(), options.max_width))

    def _table(self, columns: Sequence[_Column], gap: int) -> Table:
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold underline")
        for column in columns:
            justify: Literal["left", "right"] = "left" if column.left else "right"
            table.add_column(column.header, justify=justify, no_wrap=True, overflow="ellipsis")
        for row in range(1 + len(self._shown)):
            table.add_row(*(column.cells[row] for column in columns), style=None if row else "dim")
        return table

    def _columns(self) -> list[_Column]:
        search, shown = self._search, self._shown
        columns = [_Column("point", [DENSE, *(str(candidate.index) for candidate in shown)])]
        images = next((candidate.evaluation.images for candidate in shown if candidate.evaluation), None)
        dense = search.dense_accuracy
        known = None if images is None else Evaluation(round(dense * images), images, images)
        columns += self._results("val. %", [known, *(candidate.evaluation for candidate in shown)], drop=4)
        if any(candidate.test for candidate in shown):
            columns += self._results("test %", [search.baseline_test, *(candidate.test for candidate in shown)], drop=3)
        for name in _cost_columns(search):
            base = search.uncompressed[name]
            values = [base, *(candidate.costs[name] for candidate in shown)]
            # Costs that are objectives stay; the other costs are dropped first, their ratios even before them.
            drop = 0 if name in search.cost_columns else 5
            columns.append(_Column(_unit(search, name), [_short(value) for value in values], drop))
            ratios = ["", *(f"{base / value:.1f}x" if value else "" for value in values[1:])]
            columns.append(_Column("less", ratios, 2 if drop == 0 else 6))
        levels = [DENSE_LEVEL, *(candidate.genotype.level for candidate in shown)]
        columns.append(_Column("level", [label_of(level) for level in levels], 1))
        return columns

    def _results(self, header: str, evaluations: Sequence[Evaluation | None], *, drop: int) -> list[_Column]:
        """Return a column of accuracies and one of their intervals, or one of the values of another metric."""
        metric = self._search.metric
        if metric.percent:
            return _accuracy(header, evaluations, drop=drop)
        values = [self._search.baseline if found and found.metric is None else found for found in evaluations]
        name = header.replace("val. %", metric.name).replace(" %", "")
        return [_Column(name, ["" if found is None else metric.text(found.accuracy) for found in values])]

    def _bits(self) -> list[tuple[_Column, _Column]]:
        """Return pairs of columns, of which one each is shown: numbers of each layer, and their range and mean."""
        genotypes = [candidate.genotype for candidate in self._shown]
        pairs = [_by_layer("bits", "32", " in every layer", [genotype.bits for genotype in genotypes])]
        if self._search.space.activation_bits:
            inputs = [genotype.activation_bits for genotype in genotypes]
            pairs.append(_by_layer("inputs", "", "not rounded", inputs, drop=1))
        return pairs


def _accuracy(header: str, evaluations: Sequence[Evaluation | None], *, drop: int) -> list[_Column]:
    intervals = [wilson_interval(int(found.correct), found.images) if found else None for found in evaluations]
    return [
        _Column(header, [f"{100 * found.accuracy:.2f}" if found else "" for found in evaluations]),
        _Column("interval", [f"{100 * ends[0]:.1f}-{100 * ends[1]:.1f}" if ends else "" for ends in intervals], drop),
    ]


def _cost_columns(search: Search) -> list[str]:
    """Return the costs among the objectives, then energy and size if they are known and not among them."""
    columns = search.cost_model.columns
    others = [columns[name] for name in ("energy", "size") if name in columns]
    return list(dict.fromkeys([*search.cost_columns, *others]))


def _unit(search: Search, name: str) -> str:
    if name == search.cost_model.columns.get("energy"):
        return search.cost_model.hardware.energy_label
    return COSTS[name].unit


def _by_layer(
    name: str, dense: str, in_every_layer: str, every: Sequence[Sequence[int]], drop: int = 0
) -> tuple[_Column, _Column]:
    """Return two columns: the numbers of bits of each layer, and their range and mean.

    Args:
        name: of the columns.
        dense: what stands for the uncompressed network.
        in_every_layer: what follows it where there is room.
        every: for each point, the bits of each layer.
        drop: as for ``_Column``.
    """
    widths = [max(len(str(bits[layer])) for bits in every) for layer in range(len(every[0]))]
    listed = [" ".join(f"{bit:>{width}}" for bit, width in zip(bits, widths, strict=True)) for bits in every]
    short = [f"{min(bits)}-{max(bits)}, mean {sum(bits) / len(bits):.1f}" for bits in every]
    more = len(widths) > 1 and len(dense + in_every_layer) <= max(map(len, listed))
    return (
        _Column(f"{name} by layer", [dense + in_every_layer if more else dense, *listed], drop, left=True),
        _Column(name, [dense, *short], drop, left=True),
    )


def _fitting(others: list[_Column], pairs: list[tuple[_Column, _Column]], width: int) -> tuple[list[_Column], int]:
    """Return the columns that fit a width, and the gap between them.

    If not all columns fit with wide gaps, narrow gaps are used and columns are dropped. The bits of each layer are
    replaced by their range and mean if they do not fit beside the columns that are never dropped.
    """

    def room(some: Sequence[_Column], gap: int) -> int:
        return width - sum(column.width + gap for column in some) + gap

    wide, narrow = _GAPS
    listed, short = ([pair[which] for pair in pairs] for which in (0, 1))
    bits = listed if room([*(column for column in others if not column.drop), *listed], narrow) >= 0 else short
    kept = [*others, *bits]
    if room(kept, wide) >= 0:
        return kept, wide
    while room(kept, narrow) < 0 and (last := max(kept, key=lambda column: column.drop)).drop:
        kept = [column for column in kept if column is not last]
    return kept, wide if room(kept, wide) >= 0 else narrow


def _thin(front: list[Candidate], rows: int | None) -> list[Candidate]:
    if rows is None or len(front) <= rows:
        return front
    if rows < 2:
        return front[:rows]
    return [front[round(i * (len(front) - 1) / (rows - 1))] for i in range(rows)]


def _short(value: float) -> str:
    """Format with four significant digits; from 1000 on, as a whole number with thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".removesuffix(".")
