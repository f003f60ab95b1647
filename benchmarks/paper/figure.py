"""The figures of the paper's experiments: the fronts of both arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from benchmarks.common.figures import OUR_COLOUR, REFERENCE_COLOUR
from benchmarks.paper.outcomes import COLUMNS, UNITS, Outcome, trades_of
from benchmarks.paper.published import CODE_FRONTS
from emomc.common.pareto import non_dominated

COLOURS = {"reference": REFERENCE_COLOUR, "emomc": OUR_COLOUR}


def front_figure(experiment: str, cost: str, outcomes: Sequence[Outcome]) -> Figure:
    """Draw error over cost, on the test images, one panel a dataflow or coding; the error on a logarithmic scale."""
    trades = [trade for trade in trades_of(outcomes) if trade.cost == cost]
    columns = 2 if cost == "energy" else len(trades)
    lines = -(-len(trades) // columns)
    figure, panels = plt.subplots(lines, columns, figsize=(4.2 * columns, 3.4 * lines), squeeze=False, sharey=True)
    for axes, trade in zip(panels.flat, trades, strict=False):
        for outcome in (outcome for outcome in outcomes if outcome.trade == trade):
            points = [(point[COLUMNS[cost]], 100 * (1 - point["test_accuracy"])) for point in outcome.front["points"]]
            _draw(axes, points, COLOURS[outcome.arm], outcome.arm)
        if published := CODE_FRONTS.get((experiment, cost, trade.variant)):
            points = [(amount, 100 - percent) for percent, amount in published]
            _draw(axes, points, "#009e73", "the published code's run")
        axes.set(yscale="log", title=trade.label)
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3, which="both")
        axes.set_xlabel(f"{cost}, {UNITS[cost]}")
    for axes in panels[:, 0]:
        axes.set_ylabel("test error, %")
    # One entry for all seeds of an arm.
    entries = {
        label: line for axes in panels.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    panels[0, 0].legend(entries.values(), entries.keys())
    figure.tight_layout()
    return figure


def _draw(axes: Any, points: list[tuple[float, float]], colour: str, label: str) -> None:
    """Draw the points as the staircase of those that no other dominates."""
    kept = sorted(point for point, keep in zip(points, non_dominated(points, first_only=True), strict=True) if keep)
    axes.step(*zip(*kept, strict=True), where="post", color=colour, alpha=0.7, marker=".", markersize=4, label=label)
