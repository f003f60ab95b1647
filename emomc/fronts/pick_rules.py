"""The rules that pick one point of a front, and their text on the command line."""

from __future__ import annotations

import dataclasses
import enum
import math

from emomc.candidates.objectives import COSTS
from emomc.common.errors import UserError

FORMS = "knee, max-accuracy, budget:COST=LIMIT[,COST=LIMIT], within:POINTS[:COST], aggregate[:RATIO], index:NUMBER"
"""The forms that ``parse_pick`` accepts, for help texts and errors."""


class PickKind(enum.Enum):
    """The kind of a rule; the value is its name on the command line."""

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
    """WITHIN: percentage points of accuracy; AGGREGATE: reward over penalty; INDEX: the point's index."""
    cost: str | None = None
    """WITHIN: the cost to minimise; None: the first cost among the objectives."""

    def __str__(self) -> str:
        if self.kind is PickKind.BUDGET:
            return "budget:" + ",".join(map(str, self.limits))
        tail = "" if self.value is None else f":{self.value:g}"
        return self.kind.value + tail + (f":{self.cost}" if self.cost else "")


def parse_pick(text: str) -> Pick:
    """Parse the text of a rule.

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
    word, _, rest = text.strip().partition(":")
    if word in (PickKind.KNEE.value, PickKind.MAX_ACCURACY.value) and not rest:
        return Pick(PickKind(word))
    if word == PickKind.BUDGET.value and rest:
        return Pick(PickKind.BUDGET, limits=tuple(_parse_limit(part) for part in rest.split(",")))
    if word == PickKind.WITHIN.value and rest:
        points, _, cost = rest.partition(":")
        if cost and cost not in COSTS:
            raise UserError(f"expected one of {', '.join(COSTS)} in the pick {text!r}, found {cost!r}")
        return Pick(PickKind.WITHIN, value=_number(points, "percentage points, 0 or more,", 0.0), cost=cost or None)
    if word == PickKind.AGGREGATE.value:
        ratio = _number(rest, "a ratio of reward over penalty above 0", 0.0) if rest else 1.0
        if ratio == 0:
            raise UserError("expected a ratio of reward over penalty above 0, found 0")
        return Pick(PickKind.AGGREGATE, value=ratio)
    if word == PickKind.INDEX.value:
        if not rest.isdecimal():
            raise UserError(f"expected index:NUMBER with a whole number, found {text!r}")
        return Pick(PickKind.INDEX, value=int(rest))
    raise UserError(f"expected a pick such as {FORMS}, found {text!r}")


def _parse_limit(text: str) -> Limit:
    cost, sign, value = (part.strip() for part in text.partition("="))
    if cost not in COSTS or not sign:
        raise UserError(f"expected a budget such as energy_mj=0.003 for {', '.join(COSTS)}, found {text!r}")
    relative = value.endswith("%")
    return Limit(cost, _number(value.removesuffix("%"), f"a limit of 0 or more for {cost}", 0.0), relative)


def _number(text: str, what: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"expected {what}, found {text!r}") from None
    if not math.isfinite(value) or value < least:
        raise UserError(f"expected {what}, found {text!r}")
    return value
