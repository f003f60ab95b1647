"""The rules that pick one point of a front, and their text on the command line."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Collection

from emomc.candidates.objectives import COSTS
from emomc.common.errors import UserError, shown
from emomc.common.json_values import MOST_DIGITS

FORMS = (
    "safe[:POINTS[:COST]], within:POINTS[:COST], knee, max-accuracy, budget:COST=LIMIT[,COST=LIMIT], "
    "aggregate[:RATIO], index:NUMBER"
)
"""The forms that ``parse_pick`` accepts, for help texts and errors."""

DEFAULT_PICK = "safe"
"""The rule of the commands and of the report, if none is named."""

SAFE_POINTS = 1.0
"""Percentage points of accuracy that ``safe`` gives up, if no number is named."""


class PickKind(enum.Enum):
    """The kind of a rule; the value is its name on the command line."""

    SAFE = "safe"
    KNEE = "knee"
    MAX_ACCURACY = "max-accuracy"
    BUDGET = "budget"
    WITHIN = "within"
    AGGREGATE = "aggregate"
    INDEX = "index"


@dataclasses.dataclass(frozen=True)
class Limit:
    """An upper limit on a cost of a point."""

    cost: str
    """A key of ``COSTS``."""
    value: float
    """In the cost's unit, or in percent of the uncompressed network."""
    relative: bool = False
    """Whether ``value`` is a percentage."""

    def __str__(self) -> str:
        return f"{self.cost}={self.value:g}{'%' if self.relative else ''}"


@dataclasses.dataclass(frozen=True)
class Pick:
    """A rule that chooses one point of a front; see ``parse_pick``."""

    kind: PickKind
    limits: tuple[Limit, ...] = ()
    """BUDGET: all of them must hold."""
    value: float | None = None
    """SAFE, WITHIN: percentage points of accuracy; AGGREGATE: reward over penalty; INDEX: the point's index."""
    cost: str | None = None
    """SAFE, WITHIN: the cost to minimise; None: the first cost among the objectives."""

    def __str__(self) -> str:
        if self.kind is PickKind.BUDGET:
            return "budget:" + ",".join(map(str, self.limits))
        number = int(self.value or 0) if self.kind is PickKind.INDEX else self.value
        tail = "" if number is None else f":{number}" if isinstance(number, int) else f":{number:g}"
        return self.kind.value + tail + (f":{self.cost}" if self.cost else "")


def parse_pick(text: str) -> Pick:
    """Parse the text of a rule.

    - ``safe``, ``safe:0.5``, ``safe:0.5:size_kib``: the cheapest that loses at most this many percentage points of
      accuracy (default 1) even if chance favoured it on the validation images; if there is none, the most accurate.
    - ``knee``: where the front bends most, if one percentage point of accuracy is worth one percent of the uncompressed
      cost.
    - ``max-accuracy``: the most accurate; of equally accurate ones the cheapest.
    - ``budget:energy_mj=0.003``, ``budget:size_kib=20,latency_ms=5``, ``budget:energy_mj=10%``: the most accurate that
      costs at most so much; a percentage is one of the uncompressed network's cost.
    - ``within:1.0``, ``within:1.0:size_kib``: the cheapest that loses at most this many percentage points of accuracy
      against the uncompressed network.
    - ``aggregate``, ``aggregate:5``: the largest net reward per cost, where a correct answer earns this many times
      what a wrong one costs (default 1).
    - ``index:3``: the point with this index.

    Raises:
        UserError: the text is none of these.
    """
    word, colon, rest = text.strip().partition(":")
    if word in (PickKind.KNEE.value, PickKind.MAX_ACCURACY.value) and not colon:
        return Pick(PickKind(word))
    if word == PickKind.BUDGET.value and rest:
        limits = tuple(_parse_limit(part) for part in rest.split(","))
        if len({limit.cost for limit in limits}) != len(limits):
            raise UserError(f"expected each cost once in a budget, found {shown(text)}")
        return Pick(PickKind.BUDGET, limits=limits)
    if word == PickKind.SAFE.value and not colon:
        return Pick(PickKind.SAFE, value=SAFE_POINTS)
    if word in (PickKind.SAFE.value, PickKind.WITHIN.value) and rest:
        points, _, cost = rest.partition(":")
        if cost and cost not in COSTS:
            raise UserError(f"expected one of {', '.join(COSTS)} in the pick {shown(text)}, found {shown(cost)}")
        return Pick(PickKind(word), value=_number(points, "percentage points of 0..100", most=100), cost=cost or None)
    if word == PickKind.AGGREGATE.value:
        ratio = _number(rest, "a ratio of reward over penalty above 0", positive=True) if colon else 1.0
        return Pick(PickKind.AGGREGATE, value=ratio)
    if word == PickKind.INDEX.value:
        return Pick(PickKind.INDEX, value=parse_index(rest, f"index:NUMBER in the pick {shown(text)}"))
    raise UserError(f"expected a pick such as {FORMS}, found {shown(text)}")


def parse_index(text: str, what: str) -> int:
    """Return the index of a candidate.

    Args:
        text: its digits.
        what: what the text should be, for the error.

    Raises:
        UserError: it is no whole number, or has over 18 digits.
    """
    if not (text.isascii() and text.isdecimal()) or len(text) > MOST_DIGITS:
        raise UserError(f"expected {what}, a whole number of 0 or more, found {shown(text)}")
    return int(text)


def check_index(index: int, most: int, what: str) -> None:
    """Check that a search can have a candidate with an index.

    Args:
        index: counted from 0.
        most: candidates that the search has at most.
        what: what names the index, for the error ("--layers").

    Raises:
        UserError: it cannot.
    """
    if index >= most:
        raise UserError(f"expected {what} below the {most} candidates that this search has at most, found {index}")


def check_pick(pick: Pick, costs: Collection[str], most_candidates: int) -> None:
    """Check that a rule can choose from the front of a search that is not made yet.

    Args:
        pick: the rule.
        costs: keys of the costs that its points will have.
        most_candidates: that the search has at most.

    Raises:
        UserError: the points will lack a cost of the rule, or cannot have its index.
    """
    for cost in [limit.cost for limit in pick.limits] + ([pick.cost] if pick.cost else []):
        if cost not in costs:
            raise UserError(f"expected a cost of this search, {', '.join(costs)}, in the pick {pick}, found {cost!r}")
    if pick.kind is PickKind.INDEX:
        check_index(int(pick.value or 0), most_candidates, "the index of a pick")


def _parse_limit(text: str) -> Limit:
    cost, sign, value = (part.strip() for part in text.partition("="))
    if cost not in COSTS or not sign:
        raise UserError(f"expected a budget such as energy_mj=0.003 for {', '.join(COSTS)}, found {shown(text)}")
    relative = value.endswith("%")
    return Limit(cost, _number(value.removesuffix("%"), f"a limit above 0 for {cost}", positive=True), relative)


def _number(text: str, what: str, *, positive: bool = False, most: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most or math.isinf(value) or (positive and value == 0):
        raise UserError(f"expected {what}, found {shown(text)}")
    return value
