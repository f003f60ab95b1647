"""Picking one point of a front, with a sentence that gives the reason.

All rules use validation accuracy: the test accuracy of a point that was chosen by it would be biased.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from emomc.candidates.objectives import COSTS, OBJECTIVES
from emomc.common.errors import UserError
from emomc.common.intervals import loss_bound
from emomc.common.metric import Metric
from emomc.common.pareto import knee
from emomc.compression.levels import UNSTRUCTURED
from emomc.fronts.front_file import Front, Point, level_of, metric_of
from emomc.fronts.pick_rules import DEFAULT_PICK, Limit, Pick, PickKind, parse_pick

# Percentage points that cover rounding errors; far below the share of one image.
_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class PickedPoint:
    """The point that a rule chose."""

    pick: Pick
    index: int
    """The point's ``index`` in the front."""
    position: int
    """Its position in the front's list of points."""
    reason: str
    """One sentence that says why this point was chosen."""
    met: bool = True
    """Whether the point is what the rule asks for; ``safe`` takes the most accurate if no point is."""


def pick_point(pick: Pick | str, front: Front) -> PickedPoint:
    """Choose a point of a front.

    Args:
        pick: the rule, or its text.
        front: the content of a front.json (``emomc.fronts.front_file.read_front``).

    Raises:
        UserError: the front is empty or lacks a cost that the rule needs, or no point meets the rule; then the error
            names the nearest point.
    """
    rule = parse_pick(pick) if isinstance(pick, str) else pick
    if not front["points"]:
        raise UserError("expected a front with at least one point to pick from, found an empty one")
    position, reason = _CHOOSERS[rule.kind](rule, front)
    counted = rule.kind is PickKind.SAFE and metric_of(front).percent
    met = not counted or position in _safe_positions(rule, front)
    return PickedPoint(rule, front["points"][position]["index"], position, reason, met)


def standard_picks(front: Front) -> list[PickedPoint]:
    """Apply the standard rules and leave out those that no point meets.

    The first is the default rule. The others are: most accurate; cheapest within one percentage point of accuracy;
    knee; for each cost among the objectives, the most accurate for a tenth of the uncompressed cost; aggregation of
    reward and penalty.
    """
    rules = [parse_pick(DEFAULT_PICK), Pick(PickKind.MAX_ACCURACY), Pick(PickKind.WITHIN, value=1.0)]
    rules.append(Pick(PickKind.KNEE))
    tenths = [key for key in cost_keys(front) if front["baseline"].get(key)]
    rules += [Pick(PickKind.BUDGET, limits=(Limit(key, 10.0, relative=True),)) for key in tenths]
    rules.append(Pick(PickKind.AGGREGATE, value=1.0))
    found = []
    for rule in rules:
        try:
            found.append(pick_point(rule, front))
        except UserError:
            continue
    return found


def objective_keys(front: Front) -> list[str]:
    """Return, for each objective of the search, the key of its value in a point.

    Raises:
        UserError: a point has no value for an objective.
    """
    points = front["points"]
    keys = []
    for name in front["objectives"]:
        known = [entry.key for entry in OBJECTIVES[name].entries] if name in OBJECTIVES else [name]
        key = next((key for key in known if all(point.get(key) is not None for point in points)), None)
        if key is None:
            raise UserError(
                f"expected the objective {name} as {known[-1]} in every point of the front, found points without"
            )
        keys.append(key)
    return keys


def cost_keys(front: Front) -> list[str]:
    """Return the keys of the costs among the objectives, in the order of the objectives."""
    return [key for key in objective_keys(front) if key != "validation_accuracy"]


def _safe(rule: Pick, front: Front) -> tuple[int, str]:
    """Find the cheapest whose ``loss_bound`` is small enough; if there is none, the most accurate."""
    points, allowed = front["points"], float(rule.value or 0.0)
    if not metric_of(front).percent:
        return _safe_without_counts(rule, front)
    costs = [rule.cost] if rule.cost else cost_keys(front)[:1]
    for cost in costs:
        _require(cost, points)
    meeting = _safe_positions(rule, front)
    words = f"at most {_points(allowed)} of accuracy"
    if not meeting:
        position = _most_accurate(front, range(len(points)))
        why = "the front does not say on how many images the accuracies were measured"
        bounds, images = _loss_bounds(front)
        if images:
            why = f"by {images:,} validation images ({_short(images / 100)} a point), each may lose "
            why += f"{_points(100 * min(bounds))} or more"
        name, paid = _name(front, position), _paid(front, position)
        return position, f"{name} is the most accurate network; none is sure to lose {words}, since {why}: {paid}."
    ranked = [*costs, *cost_keys(front)]
    position = min(meeting, key=lambda i: ([points[i][key] for key in ranked], -points[i]["validation_accuracy"], i))
    name, paid = _name(front, position), _paid(front, position)
    which = f"has the least {COSTS[costs[0]].name} of those that lose" if costs else "loses"
    images = front["baseline"]["validation_images"]
    return position, f"{name} {which} {words}, with a margin for chance on {images:,} validation images: {paid}."


def _safe_without_counts(rule: Pick, front: Front) -> tuple[int, str]:
    """Find the cheapest within the range that may be lost: what chance adds to a metric is not known."""
    try:
        return _within(dataclasses.replace(rule, kind=PickKind.WITHIN), front)
    except UserError:
        position = _most_accurate(front, range(len(front["points"])))
        name, paid, allowed = _name(front, position), _paid(front, position), float(rule.value or 0.0)
        lost = f"more than {_words(allowed, metric_of(front))}"
        return position, f"{name} is the {_best(front)}; each network of the front loses {lost}: {paid}."


def _safe_positions(rule: Pick, front: Front) -> list[int]:
    """Return the positions of the points that lose no more than the rule allows, with the margin."""
    bounds, _ = _loss_bounds(front)
    return [i for i, bound in enumerate(bounds) if 100 * bound <= float(rule.value or 0.0) + _TOLERANCE]


def _loss_bounds(front: Front) -> tuple[list[float], int]:
    """Return the ``loss_bound`` of each point against the uncompressed network, and the number of images.

    All points of the front compete for their accuracy, so the bounds hold for all together. Without a number of images
    they are infinite. Older fronts give accuracies without counts.
    """
    points, base = front["points"], front["baseline"]
    images = base.get("validation_images") or 0
    if not images:
        return [math.inf] * len(points), 0
    before, *after = (round(entry["validation_accuracy"] * images) for entry in (base, *points))
    return [loss_bound(before, count, images, compared=len(points)) for count in after], images


def _knee(_rule: Pick, front: Front) -> tuple[int, str]:
    """Find the knee, with one percentage point of accuracy worth one percent of the uncompressed cost.

    The ends of the front are not used as a scale, because the cheapest networks of a front are often useless.
    """
    keys, base = objective_keys(front), front["baseline"]
    losses = [
        [-point[key] if key == "validation_accuracy" else point[key] for key in keys] for point in front["points"]
    ]
    known = all(key == "validation_accuracy" or (base.get(key) or 0) > 0 for key in keys)
    span = [1.0 if key == "validation_accuracy" else base[key] for key in keys] if known else None
    position = knee(losses, span)
    name, paid = _name(front, position), _paid(front, position)
    if span is None:
        return position, f"{name} is the knee, where the front bends most: {paid}."
    costs = " and ".join(COSTS[key].name for key in cost_keys(front)) or "cost"
    return position, (
        f"{name} is the knee: cheaper networks lose more {_unit(front)} than they save percent of the uncompressed "
        f"{costs}, more expensive ones gain fewer points than they add percent; {paid}."
    )


def _max_accuracy(_rule: Pick, front: Front) -> tuple[int, str]:
    position = _most_accurate(front, range(len(front["points"])))
    name, paid = _name(front, position), _paid(front, position)
    return position, f"{name} is the {_best(front)} of the front: {paid}."


def _budget(rule: Pick, front: Front) -> tuple[int, str]:
    points = front["points"]
    limits = [(limit.cost, _absolute(limit, front)) for limit in rule.limits]
    for cost, _ in limits:
        _require(cost, points)
    wanted = " and ".join(
        _limit_text(limit, value, front) for limit, (_, value) in zip(rule.limits, limits, strict=True)
    )
    meeting = [i for i, point in enumerate(points) if all(point[cost] <= value for cost, value in limits)]
    if not meeting:
        position = min(range(len(points)), key=lambda i: _excess(points[i], limits))
        costs = " and ".join(_amount(cost, points[position][cost], front) for cost, _ in limits)
        raise UserError(
            f"expected a point that needs {wanted}, found none; the nearest is point {points[position]['index']} "
            f"with {costs} and {_reached(front, points[position])}"
        )
    position = _most_accurate(front, meeting)
    name, paid = _name(front, position), _paid(front, position)
    return position, f"{name} is the {_best(front)} that needs {wanted}: {paid}."


def _within(rule: Pick, front: Front) -> tuple[int, str]:
    points, allowed = front["points"], float(rule.value or 0.0)
    costs = [rule.cost] if rule.cost else cost_keys(front)
    if not costs:
        raise UserError(
            f"expected within:{allowed:g}:COST for a front without a cost among its objectives, found no cost"
        )
    _require(costs[0], points)
    baseline, metric = front["baseline"]["validation_accuracy"], metric_of(front)
    lost = [100 * (baseline - point["validation_accuracy"]) for point in points]
    meeting = [i for i in range(len(points)) if lost[i] <= allowed + _TOLERANCE]
    if not meeting:
        nearest = _most_accurate(front, range(len(points)))
        raise UserError(
            f"expected a point within {_words(allowed, metric)} of the uncompressed network's "
            f"{_reached(front, front['baseline'])}, found none; the nearest is {_name(front, nearest).lower()} with "
            f"{metric.text(points[nearest]['validation_accuracy'])}"
        )
    position = min(meeting, key=lambda i: (points[i][costs[0]], -points[i]["validation_accuracy"], i))
    name, paid = _name(front, position), _paid(front, position)
    return position, (
        f"{name} has the least {COSTS[costs[0]].name} of those within {_words(allowed, metric)} of the uncompressed "
        f"{metric.name}: {paid}."
    )


def _aggregate(rule: Pick, front: Front) -> tuple[int, str]:
    """Maximise (r a - t (1 - a)) / cost: reward r per correct answer, penalty t per wrong one, accuracy a.

    Source: our reading of the aggregation score in section V.D of Wang et al., "Evolutionary Multi-Objective Model
    Compression for Deep Neural Networks", IEEE CIM 16(3), 2021, which scores fronts at r/t = 5, 1 and 0.2, each score
    divided by the uncompressed network's.
    """
    points, ratio = front["points"], float(rule.value or 1.0)
    if not metric_of(front).percent:
        raise UserError(f"expected a front of accuracies for the pick {rule}, found one of {metric_of(front).name}")
    costs = cost_keys(front)
    if not costs:
        raise UserError("expected a cost among the objectives for the pick aggregate, found none")
    cost = costs[0]

    def score(point: Point) -> float:
        accuracy = point["validation_accuracy"]
        return float((ratio * accuracy - (1 - accuracy)) / point[cost]) if point[cost] > 0 else math.nan

    scores = np.array([score(point) for point in points])
    if not np.isfinite(scores).all():
        raise UserError(f"expected a {COSTS[cost].name} above 0 in every point for the pick aggregate, found 0")
    position = int(np.argmax(scores))
    if scores[position] <= 0:
        raise UserError(f"expected a point whose reward exceeds its penalty at a ratio of {ratio:g}, found none")
    base = front["baseline"]
    gain = ""
    if base.get(cost) and (uncompressed := score(base)) > 0:
        gain = f" ({_short(scores[position] / uncompressed)} times that of the uncompressed network)"
    name, paid = _name(front, position), _paid(front, position)
    worth = "as much as" if ratio == 1 else f"{_short(ratio)} times what"
    return position, (
        f"{name} has the largest net reward per unit of {COSTS[cost].name}, where a correct answer earns {worth} a "
        f"wrong one costs{gain}: {paid}."
    )


def _index(rule: Pick, front: Front) -> tuple[int, str]:
    for position, point in enumerate(front["points"]):
        if point["index"] == rule.value:
            return position, f"{_name(front, position)} was asked for by its index: {_paid(front, position)}."
    known = [point["index"] for point in front["points"]]
    raise UserError(f"expected the index of a point, {min(known)} to {max(known)}, found {int(rule.value or 0)}")


_CHOOSERS: dict[PickKind, Callable[[Pick, Front], tuple[int, str]]] = {
    PickKind.SAFE: _safe,
    PickKind.KNEE: _knee,
    PickKind.MAX_ACCURACY: _max_accuracy,
    PickKind.BUDGET: _budget,
    PickKind.WITHIN: _within,
    PickKind.AGGREGATE: _aggregate,
    PickKind.INDEX: _index,
}


def _most_accurate(front: Front, positions: range | list[int]) -> int:
    points, costs = front["points"], cost_keys(front)
    return min(positions, key=lambda i: (-points[i]["validation_accuracy"], [points[i][key] for key in costs], i))


def _absolute(limit: Limit, front: Front) -> float:
    if not limit.relative:
        return limit.value
    base = front["baseline"].get(limit.cost)
    if not base:
        raise UserError(f"expected the uncompressed network's {limit.cost} for the budget {limit}, found none")
    return float(base) * limit.value / 100


def _excess(point: Point, limits: list[tuple[str, float]]) -> tuple[float, list[float]]:
    """Rank a point by the largest ratio of cost to limit; of equal ratios by the costs."""
    ratios = [point[cost] / value if value else math.inf for cost, value in limits]
    return max(ratios), [point[cost] for cost, _ in limits]


def _require(cost: str, points: list[Point]) -> None:
    if any(point.get(cost) is None for point in points):
        raise UserError(f"expected {cost} in every point of the front, found points without it")


def _limit_text(limit: Limit, value: float, front: Front) -> str:
    share = f" ({limit.value:g} % of the uncompressed network's)" if limit.relative else ""
    return f"at most {_amount(limit.cost, value, front)}{share}"


def _name(front: Front, position: int) -> str:
    point = front["points"][position]
    level = level_of(point)
    pattern = "" if level.pattern == UNSTRUCTURED else f" ({level.label})"
    return f"Point {point['index']}{pattern}"


def _paid(front: Front, position: int) -> str:
    """Describe accuracy and costs: "98.1 % validation accuracy (test 97.9 %) for 0.0031 mJ (4.2 times ..."."""
    point, baseline = front["points"][position], front["baseline"]
    test = point.get("test_accuracy")
    text = _reached(front, point)
    if test is not None:
        text += f" (test {metric_of(front).text(test)})"
    parts = []
    for key in cost_keys(front):
        part = _amount(key, point[key], front)
        if baseline.get(key) and point[key] > 0:
            factor = baseline[key] / point[key]
            relation = f"{_short(factor)} times less" if factor >= 1 else f"{_short(1 / factor)} times more"
            part += f" ({relation} than uncompressed)"
        parts.append(part)
    return text + (" for " + " and ".join(parts) if parts else "")


def _amount(key: str, value: float, front: Front) -> str:
    unit = str(front["energy_unit"]) if key == "energy_mj" else COSTS[key].unit
    return f"{_short(value)} {unit}"


def _points(number: float) -> str:
    return f"{number:.3g} {'point' if number == 1 else 'points'}"


def _words(points: float, metric: Metric) -> str:
    """Return points of accuracy, or of the range of another metric in its unit, as words."""
    if metric.percent:
        return _points(points)
    return f"{points:.3g} % of its range ({points / 100 * (metric.high - metric.low):.3g})"


def _best(front: Front) -> str:
    metric = metric_of(front)
    return "most accurate network" if metric.percent else f"network with the best {metric.name}"


def _unit(front: Front) -> str:
    metric = metric_of(front)
    return "points of accuracy" if metric.percent else f"points (percent of the range of {metric.name})"


def _reached(front: Front, point: Point) -> str:
    """Describe what a point reaches on the validation data: "98.10 % validation accuracy", or "val/iou 0.81"."""
    metric, text = metric_of(front), metric_of(front).text(point["validation_accuracy"])
    return f"{text} validation accuracy" if metric.percent else f"{metric.name} {text}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
