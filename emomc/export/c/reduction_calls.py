"""Means, sums, variances, norms and largest numbers over dimensions, as calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx

from emomc.common.errors import UserError
from emomc.export.c.elementwise_calls import SUBTRACT, combine, negate, power
from emomc.export.c.program import Values
from emomc.export.c.scope import Scope, describe
from emomc.export.c.shape_calls import copy, strides

aten = torch.ops.aten


def mean(scope: Scope, node: fx.Node) -> Values:
    """The mean over some dimensions."""
    rows = _rows(scope, node)
    return _sums(scope, rows, rows.shape[1], scope.shape(node))


def sum_over(scope: Scope, node: fx.Node) -> Values:
    """The sum over some dimensions."""
    return _sums(scope, _rows(scope, node), 1, scope.shape(node))


def variance(scope: Scope, node: fx.Node) -> Values:
    """The variance over some dimensions; the second argument, or the third, says what their count is reduced by.

    Raises:
        UserError: there is no more than one number.
    """
    rows, out = _rows(scope, node), scope.shape(node)
    correction = scope.argument(node, 2, "correction", scope.argument(node, 2, "unbiased", 1))
    size = rows.shape[1]
    divisor = size - int(1 if correction is None else correction)
    if divisor < 1:
        raise UserError(f"expected variances of more than one number in C, found {describe(node)} of {size}")
    means = _sums(scope, rows, size, (rows.shape[0], 1))
    distances = combine(scope, [(rows, rows.shape), (means, means.shape)], SUBTRACT, rows.shape)
    return _sums(scope, power(scope, distances, 2), divisor, out)


def deviation(scope: Scope, node: fx.Node) -> Values:
    """The standard deviation over some dimensions."""
    return power(scope, variance(scope, node), 0.5)


def euclidean_norm(scope: Scope, node: fx.Node) -> Values:
    """The root of the sum of squares over some dimensions.

    Raises:
        UserError: the norm is another one.
    """
    order = float(scope.argument(node, 1, "ord", 2))
    if order != 2:
        raise UserError(f"expected Euclidean norms in C, found {describe(node)} of order {order:g}")
    squares = power(scope, _rows(scope, node, position=2), 2)
    return power(scope, _sums(scope, squares, 1, scope.shape(node)), 0.5)


def largest(scope: Scope, node: fx.Node) -> Values:
    """The largest number over some dimensions."""
    return _largest(scope, _rows(scope, node), scope.shape(node))


def smallest(scope: Scope, node: fx.Node) -> Values:
    """The smallest number over some dimensions."""
    out = scope.shape(node)
    return negate(scope, _largest(scope, negate(scope, _rows(scope, node)), out))


def with_places(lower: Callable[[Scope, fx.Node], Values]) -> Callable[[Scope, fx.Node], list[Values | None]]:
    """Return the lowering of an operation that gives numbers and where they are, which is not written in C."""
    return lambda scope, node: [lower(scope, node), None]


def _rows(scope: Scope, node: fx.Node, position: int = 1) -> Values:
    """Return the input as rows of what is to be reduced, (rows, numbers of each)."""
    given = scope.input(node)
    found = scope.argument(node, position, "dim")
    over = [found] if isinstance(found, int) else cast("Sequence[int]", found or range(len(given.shape)))
    dimensions = len(given.shape)
    reduced = sorted({int(one) % dimensions for one in over})
    order = [*(one for one in range(dimensions) if one not in reduced), *reduced]
    size = math.prod(given.shape[one] for one in reduced)
    if order != list(range(dimensions)):
        steps = strides(given.shape)
        turned = scope.new([given.shape[one] for one in order])
        given = copy(scope, given, [steps[one] for one in order], turned.shape, turned)
    return Values(given.buffer, (given.count // size, size), given.offset)


def _sums(scope: Scope, rows: Values, divisor: int, out: tuple[int, ...]) -> Values:
    return scope.call("sum_rows", rows, *rows.shape, divisor, scope.new(out))


def _largest(scope: Scope, rows: Values, out: tuple[int, ...]) -> Values:
    # Each row is a map of its own, and its window all of it.
    return scope.call("pool_adaptive_max", rows, rows.shape[0], 1, rows.shape[1], 1, 1, scope.new(out))


OPERATIONS: dict[Any, Any] = {
    **dict.fromkeys([aten.mean.default, aten.mean.dim], mean),
    **dict.fromkeys([aten.sum.default, aten.sum.dim_IntList], sum_over),
    **dict.fromkeys([aten.var.dim, aten.var.correction], variance),
    **dict.fromkeys([aten.std.dim, aten.std.correction], deviation),
    aten.linalg_vector_norm.default: euclidean_norm,
    **dict.fromkeys([aten.amax.default, aten.max.default], largest),
    **dict.fromkeys([aten.amin.default, aten.min.default], smallest),
    aten.max.dim: with_places(largest),
    aten.min.dim: with_places(smallest),
}
"""Operation -> its lowering."""
