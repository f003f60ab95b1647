"""Which of a tool's networks a user with a budget takes: the rule is the same for all tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

BUDGETS = (26.0, 25.0, 13.5, 12.5, 9.0, 6.25)
"""Percent of the bytes of the dense network in float32. With scales and biases 8 bits everywhere are some 25.7 % and 4
bits everywhere some 13.2 %, which 25 and 12.5 % do not hold."""

Row = TypeVar("Row", bound=dict)


def choice(rows: Sequence[Row], cost: str, budget: float) -> Row | None:
    """Return the most accurate row on the validation images whose cost is within a budget; None: there is none.

    Args:
        rows: of one tool, network and seed.
        cost: ``size_percent`` or ``energy_percent``.
        budget: most of it.
    """
    within = [row for row in rows if float(row[cost]) <= budget]
    return max(within, key=lambda row: (float(row["validation_accuracy"]), -float(row[cost])), default=None)
