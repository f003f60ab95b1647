"""The figure front.png."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from emomc.candidates.objectives import COSTS
from emomc.common.errors import UserError
from emomc.common.intervals import wilson_interval
from emomc.fronts.front_file import Front, metric_of
from emomc.fronts.pick_rules import DEFAULT_PICK
from emomc.fronts.picks import cost_keys, pick_point

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#5f6770"


def front_figure(front: Front, *, cost: str | None = None) -> Figure:
    """Plot accuracy with 95 % confidence intervals against a cost; mark the uncompressed and the recommended network.

    Networks more than 5 percentage points below the uncompressed accuracy are left out, with a note, if at least half
    of the front is within 5 points and its worst network is more than 20 points below.

    Save it with ``figure.savefig("front.png", dpi=200)``; no display is needed.

    Args:
        front: the content of a front.json (``emomc.fronts.front_file.read_front``).
        cost: key of the cost on the horizontal axis, such as ``energy_mj``; default: the first cost among the
            objectives.

    Raises:
        UserError: the front is empty, or not every point has the cost.
    """
    points, baseline = front["points"], front["baseline"]
    if not points:
        raise UserError("expected a front with at least one point for a figure, found an empty one")
    key = cost or next(iter(cost_keys(front)), "size_kib")
    if key not in COSTS or any(point.get(key) is None for point in points):
        raise UserError(f"expected a cost that every point of the front has, found {key!r}")
    shown, hidden = _in_range(front)
    costs = [float(point[key]) for point in points]
    metric = metric_of(front)
    # The accuracy in percent; another metric in its own unit.
    scale = 100 if metric.percent else 1
    validation = [scale * metric.value(point["validation_accuracy"]) for point in points]
    base_cost, base_accuracy = baseline.get(key), scale * metric.value(baseline["validation_accuracy"])

    figure = Figure(figsize=(5.6, 3.7), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e8ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axhline(base_accuracy, color=_GREY, linestyle=(0, (5, 4)), linewidth=1)
    better, sign = (max, -1) if metric.mode == "max" else (min, 1)
    order = sorted(range(len(points)), key=lambda i: (costs[i], sign * validation[i]))
    best = [better(validation[i] for i in order[: rank + 1]) for rank in range(len(order))]
    axes.step([costs[i] for i in order], best, where="post", color=_BLUE, alpha=0.4, linewidth=1.2)
    axes.plot([], [], "o", color=_BLUE, markersize=4.8, label="validation")
    test = [point.get("test_accuracy") for point in points]
    if all(value is not None for value in test):
        on_test = [scale * metric.value(value) for value in test]
        axes.plot(costs, on_test, "x", color=_ORANGE, markersize=4.5, markeredgewidth=1.1, label="test")
    _intervals(axes, front, costs)
    axes.plot(costs, validation, "o", color=_BLUE, markersize=4.8, markeredgecolor="white", markeredgewidth=0.6)
    recommended = pick_point(DEFAULT_PICK, front).position
    axes.plot(
        costs[recommended],
        validation[recommended],
        "D",
        color="white",
        markeredgecolor=_BLUE,
        markeredgewidth=1.5,
        markersize=7,
        label="recommended",
    )
    if base_cost:
        axes.plot(base_cost, base_accuracy, "s", color="white", markeredgecolor=_GREY, label="uncompressed")
    _scale_costs(axes, [*costs, float(base_cost)] if base_cost else costs)
    if hidden:
        near, every = [validation[i] for i in shown], [base_accuracy, *validation]
        lowest, highest = (min(near), max(every)) if metric.mode == "max" else (min(every), max(near))
        margin = 0.08 * (highest - lowest)
        axes.set_ylim(lowest - margin, highest + margin)
        axes.set_xlim(0.97 * min(costs[i] for i in shown), None)
        axes.plot([], [], " ", label=f"{hidden} less accurate not shown")
    unit = front["energy_unit"] if key == "energy_mj" else COSTS[key].unit
    name = COSTS[key].name
    axes.set_xlabel(name.capitalize() if name == unit else f"{name.capitalize()} ({unit})")
    axes.set_ylabel("Accuracy (%)" if metric.percent else metric.name)
    axes.set_title(f"{front['network']} on {front['dataset']}".replace("$", r"\$"), fontsize=10)
    axes.legend(loc="lower right" if metric.mode == "max" else "upper right", frameon=False, fontsize=8.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _in_range(front: Front) -> tuple[list[int], int]:
    """Return the positions of the points to show, and the number of hidden points.

    Very inaccurate networks would compress the useful range of the axis. Only points within 5 percentage points of the
    uncompressed accuracy are shown if they are at least half of the front and the worst point is more than 20 below.
    """
    base = front["baseline"]["validation_accuracy"]
    lost = [100 * (base - point["validation_accuracy"]) for point in front["points"]]
    near = [position for position, points in enumerate(lost) if points <= 5]
    if max(lost) > 20 and 2 * len(near) >= len(lost):
        return near, len(lost) - len(near)
    return list(range(len(lost))), 0


def _intervals(axes: Axes, front: Front, costs: list[float]) -> None:
    """Draw the 95 % confidence interval of each validation accuracy with known counts."""
    for point, cost in zip(front["points"], costs, strict=True):
        correct, images = point.get("validation_correct"), point.get("validation_images")
        if correct is not None and images:
            low, high = wilson_interval(correct, images)
            axes.vlines(cost, 100 * low, 100 * high, color=_BLUE, alpha=0.35, linewidth=1)


def _scale_costs(axes: Axes, costs: list[float]) -> None:
    """Use a logarithmic axis with plain numbers if the costs span more than a factor of six."""
    if min(costs) <= 0 or max(costs) <= 6 * min(costs):
        return
    axes.set_xscale("log")
    decades = math.log10(max(costs) / min(costs))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
