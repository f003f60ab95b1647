"""Evaluation of an exported file by the own steps of a user's module."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from emomc.common.errors import UserError
from emomc.common.metric import Metric
from emomc.export.verification import EvaluationConditions
from emomc.tasks.users_task import UsersTask
from emomc.tasks.validation import TaskValidation, finite_or_worst, has_test_data

# How far the metric of a file may be from that of the search: of one that computes the same numbers in the same order,
# and of any other, as a fraction of the range or of the value, whichever is larger.
_EXACT, _OTHER = 1e-6, 1e-3


def verify_task(
    task: UsersTask,
    exported: AbstractContextManager[nn.Module],
    front: Mapping[str, Any],
    point: Mapping[str, Any],
    conditions: EvaluationConditions,
    *,
    exact: bool,
) -> list[str]:
    """Run the module's validation and test with an exported file in place of its network.

    Args:
        task: the module and its data.
        exported: gives the file as a network.
        front: the content of a front.json.
        point: that was exported.
        conditions: how the search evaluated it.
        exact: whether the file computes the search's numbers in the same order.

    Returns:
        A line for each split.

    Raises:
        UserError: a metric differs from that in the front, or the module fails.
    """
    metric, lines = Metric(**front["metric"]), []
    with exported as network, task.with_network(network.to(memory_format=conditions.memory_format)):
        for split in ("validation", "test") if has_test_data(task) else ("validation",):
            found = TaskValidation(task, split, torch.device("cpu"), conditions.precision).run()
            value = finite_or_worst(found, metric.worst)
            lines.append(_verdict(metric, split, value, point.get(f"{split}_metric"), exact=exact))
    return lines


def _verdict(metric: Metric, split: str, value: float, promised: float | None, *, exact: bool) -> str:
    text = f"Read back: {split} {metric.name} {value:.6g}"
    if promised is None:
        return f"{text}; the front has no figure to compare with"
    allowed = (_EXACT if exact else _OTHER) * max(metric.high - metric.low, abs(promised))
    if abs(value - promised) > allowed:
        raise UserError(
            f"expected {split} {metric.name} {promised:.6g}, as in the front, found {value:.6g}; equal results need "
            f"the machine, number of threads and data of the search: nothing is written"
        )
    return f"{text}, as the front says" + ("" if value == promised else f" ({promised:.6g})")
