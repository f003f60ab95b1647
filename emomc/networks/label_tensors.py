"""Tensors of labels: whole numbers in place of values, of which most are the same along most dimensions.

What is the same along a dimension is stored once, with the stride 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

KEPT = 0
"""The label of values that must stay."""


def smallest_equal(pairs: Tensor, count: int) -> Tensor:
    """Return for each of so many labels the smallest of those that it is equal to, (count,).

    Args:
        pairs: labels that are equal, (2, pairs).
        count: number of labels.
    """
    smallest = torch.arange(count)
    while True:
        before = smallest.clone()
        lower = smallest[pairs].amin(0)
        for side in pairs:
            smallest.scatter_reduce_(0, side, lower, "amin")
        smallest = smallest[smallest]
        if torch.equal(smallest, before):
            return smallest


def look_up(labels: Any, table: Tensor) -> Any:
    """Return the entries of a table at labels, a tensor or a tuple of some."""
    if isinstance(labels, (tuple, list)):
        return type(labels)(look_up(one, table) for one in labels)
    small = labels
    for dimension in range(labels.ndim):
        if labels.stride(dimension) == 0 and labels.shape[dimension]:
            small = small.narrow(dimension, 0, 1)
    return table[small].expand(labels.shape)


def all_tensors(values: Any) -> list[Tensor]:
    """Return the tensors among values, also those in tuples."""
    found: list[Tensor] = []
    for value in values:
        found += all_tensors(value) if isinstance(value, (tuple, list)) else [value]
    return found


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which labels differ."""
    return [at for at in range(labels.ndim) if labels.shape[at] > 1 and differs(labels, at)]


def differs(labels: Tensor, at: int) -> bool:
    """Say whether labels differ along a dimension."""
    return labels.stride(at) != 0 and not torch.equal(labels.narrow(at, 0, 1).expand_as(labels), labels)


def first_along(labels: Tensor, dimensions: list[int]) -> Tensor:
    """Return the first slice along some dimensions, which stay."""
    for dimension in dimensions:
        labels = labels.narrow(dimension, 0, 1)
    return labels


def spread_along(labels: Tensor, dimension: int, like: Tensor) -> Tensor:
    """Return labels of one dimension as those of a tensor that has them along ``dimension``."""
    shape = [1] * like.ndim
    shape[dimension] = len(labels)
    return labels.view(shape).expand(like.shape)


def map_dimensions(node: fx.Node) -> int:
    """Return over how many dimensions an operation on maps goes, by its name."""
    return 1 if "1d" in str(node.target) else 2


def kept_like(result: Any) -> Any:
    """Return labels that keep all values of a result."""
    if isinstance(result, (tuple, list)):
        return type(result)(kept_like(one) for one in result)
    return torch.zeros((), dtype=torch.int64).expand(result.shape) if isinstance(result, Tensor) else result


def operation_on_labels(target: Any) -> Callable[..., Any]:
    """Return an operation as it is run on labels: what fills a padding is kept, and so has the label 0."""
    if target in (aten.constant_pad_nd.default, aten.pad.default):
        return lambda labels, padding, *_: aten.constant_pad_nd.default(labels, padding, KEPT)
    if target is aten.cat.default:
        return joined
    if target is aten.contiguous.default:
        return lambda labels, **_: labels
    operation: Callable[..., Any] = target
    return operation


def joined(parts: list[Tensor], dimension: int = 0) -> Tensor:
    """Join labels; dimensions along which no part differs stay as they are, without a copy."""
    shape = list(parts[0].shape)
    shape[dimension] = sum(part.shape[dimension] for part in parts)
    for at in range(len(shape)):
        if at != dimension % len(shape) and all(part.stride(at) == 0 for part in parts):
            parts = [part.narrow(at, 0, 1) for part in parts]
    return torch.cat(parts, dimension).expand(shape)
