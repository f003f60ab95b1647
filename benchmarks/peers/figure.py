"""The figure of the page: test accuracy over bytes and over energy."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.common.figures import OUR_COLOUR
from benchmarks.common.reference_lenet5 import ENERGY_XY_FRONT, UNCOMPRESSED_ENERGY_MJ
from benchmarks.peers.table import Row, accuracies_within, seeds_in, title_of, tools_in
from benchmarks.peers.tools import OUR_WAYS, OURS

COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b", "#7f7f7f", "#bcbd22", "#9467bd")
STEPS = 240
COSTS = {"size_percent": "bytes, % of float32", "energy_percent": "energy of an image, % of 32 bits"}


def tools_figure(rows: Sequence[Row], network: str) -> Figure:
    """Return the figure of one network.

    Args:
        rows: of the network.
        network: its title.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), sharey=True)
    best = max(float(row["test_accuracy"]) for row in rows)
    low = best - _shown_points(rows, best)
    for axis, (cost, label) in zip(axes, COSTS.items(), strict=True):
        for place, tool in enumerate(tools_in(rows)):
            colour = OUR_COLOUR if tool in OUR_WAYS else COLOURS[place % len(COLOURS)]
            _curve(axis, rows, tool, cost, colour)
        if cost == "energy_percent" and rows[0]["network"] == "lenet5_mnist":
            costs = [100 * energy / UNCOMPRESSED_ENERGY_MJ for _, energy in ENERGY_XY_FRONT]
            kept = [accuracy for accuracy, _ in ENERGY_XY_FRONT]
            axis.plot(costs, kept, ":", color="grey", label="the paper's code, chosen by test images")
        axis.set_xscale("log")
        ticks = (2, 3, 5, 9, 13.5, 26, 50, 100) if cost == "size_percent" else (2, 3, 5, 10, 20, 50, 100)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlim(min(_costs(rows, cost)) * 0.9, 60)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(low, best + 0.05 * (best - low))
    axes[0].set_ylabel("test accuracy, %, chosen by validation images")
    handles = {text: line for axis in axes for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(0.91, 0.5), frameon=False)
    seeds = len(seeds_in(rows))
    figure.suptitle(f"{network}: mean of {seeds} dense networks" if seeds > 1 else f"{network}: one dense network")
    return figure


def _curve(axis: Axes, rows: Sequence[Row], tool: str, cost: str, colour: str) -> None:
    seeds = len(seeds_in([row for row in rows if row["tool"] == tool]))
    budgets = np.geomspace(1, 100, STEPS)
    found = [accuracies_within(rows, tool, cost, budget) for budget in budgets]
    pairs = [(budget, mean(values)) for budget, values in zip(budgets, found, strict=True) if len(values) == seeds]
    if pairs:
        ours = tool in OUR_WAYS
        style = {"linewidth": 2.5, "zorder": 5, "linestyle": "-" if tool == OURS else "--"} if ours else {}
        label = title_of(tool).replace("*", "")
        axis.step(*zip(*pairs, strict=True), where="post", color=colour, label=label, **({"linewidth": 1.3} | style))
        axis.plot(*pairs[0], "o", color=colour, markersize=6 if ours else 4)


def _costs(rows: Sequence[Row], cost: str) -> list[float]:
    return [float(row[cost]) for row in rows]


def _shown_points(rows: Sequence[Row], best: float) -> float:
    """Return how many points of accuracy below the best are shown: what most tools lose at 9 % of the bytes."""
    return 1.5 if best > 99 else 10.0
