"""Operations that move numbers without changing them: views, copies, concatenation, padding; and means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from emomc.common.errors import UserError
from emomc.export.c.program import Numbers, Values
from emomc.export.c.scope import Scope, describe

aten = torch.ops.aten
_DIMENSIONS = 6
"""Of a tensor that ``copy`` takes."""


def same(scope: Scope, node: fx.Node) -> Values:
    """The same numbers in the same order, in another shape."""
    given = scope.input(node)
    return Values(given.buffer, scope.shape(node), given.offset)


def view(scope: Scope, node: fx.Node) -> Values | list[Values]:
    """Some of the numbers, or all in another order, as torch's strides say; what is not in order is copied."""
    given = scope.input(node)
    source = torch.empty(given.shape, device="meta")
    arguments = [scope.argument(node, place, "") for place in range(1, len(node.args))]
    keywords = {name: scope.argument(node, len(node.args), name) for name in node.kwargs}
    found = node.target(source, *arguments, **keywords)  # type: ignore[operator]
    if isinstance(found, torch.Tensor):
        return _viewed(scope, given, found)
    return [_viewed(scope, given, part) for part in found]


def _viewed(scope: Scope, given: Values, found: torch.Tensor) -> Values:
    offset = given.offset + int(found.storage_offset())
    if found.is_contiguous():
        return Values(given.buffer, tuple(found.shape), offset)
    out = scope.new(found.shape)
    return copy(scope, Values(given.buffer, given.shape, offset), found.stride(), found.shape, out)


def copy(
    scope: Scope, given: Values, steps: Sequence[int], sizes: Sequence[int], out: Values, place: int = 0
) -> Values:
    """Copy numbers into a tensor.

    Args:
        scope: takes the call.
        given: what is copied begins at its offset.
        steps: by how many numbers each dimension moves in it.
        sizes: of what is copied.
        out: the tensor.
        place: number of the tensor where the copy begins.

    Raises:
        UserError: there are more dimensions than the function has.
    """
    if len(sizes) > _DIMENSIONS:
        raise UserError(f"expected tensors of at most {_DIMENSIONS} dimensions in C, found {len(sizes)}")
    front = (0,) * (_DIMENSIONS - len(sizes))
    grid = (1,) * len(front) + tuple(sizes)
    target = Values(out.buffer, out.shape, out.offset + place)
    scope.call("copy", given, Numbers(front + tuple(steps)), Numbers(grid), target, Numbers(front + strides(out.shape)))
    return out


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return by how many numbers each dimension of a row-major tensor moves."""
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def concatenate(scope: Scope, node: fx.Node) -> Values:
    """Tensors one after another along one dimension."""
    found = [scope.values.get(part) for part in node.args[0]]  # type: ignore[union-attr, arg-type]
    parts = [part for part in found if isinstance(part, Values)]
    if len(parts) < len(found):
        raise UserError(
            f"expected operations on the image that can be written in C, found {describe(node)} of constants"
        )
    out = scope.new(scope.shape(node))
    dimension = int(scope.argument(node, 1, "dim", 0)) % len(out.shape)
    place = 0
    for part in parts:
        copy(scope, part, strides(part.shape), part.shape, out, place)
        place += math.prod(part.shape[dimension:])
    return out


def pad(scope: Scope, node: fx.Node) -> Values:
    """A constant around a tensor.

    Raises:
        UserError: the padding repeats or mirrors numbers, or takes some away.
    """
    given, out = scope.input(node), scope.new(scope.shape(node))
    mode = scope.argument(node, 2, "mode", "constant") if "constant" not in str(node.target) else "constant"
    widths = [int(width) for width in scope.argument(node, 1, "pad")]
    if mode != "constant" or min(widths, default=0) < 0:
        raise UserError(f"expected padding by a constant in C, found {describe(node)} by {mode} {widths}")
    filled = scope.argument(node, 2 if "constant" in str(node.target) else 3, "value", 0.0)
    scope.call("fill", float(filled or 0.0), out.count, out)
    steps = strides(out.shape)
    # The pairs of widths begin with the last dimension.
    place = sum(steps[-1 - number] * width for number, width in enumerate(widths[::2]))
    return copy(scope, given, strides(given.shape), given.shape, out, place)


def mean(scope: Scope, node: fx.Node) -> Values:
    """The mean over some dimensions."""
    given = scope.input(node)
    over = scope.argument(node, 1, "dim") if len(node.args) > 1 or "dim" in node.kwargs else None
    dimensions = len(given.shape)
    reduced = sorted({int(one) % dimensions for one in (over or range(dimensions))})
    kept = [one for one in range(dimensions) if one not in reduced]
    size = math.prod(given.shape[one] for one in reduced)
    if [*kept, *reduced] != list(range(dimensions)):
        steps = strides(given.shape)
        order = [*kept, *reduced]
        turned = scope.new([given.shape[one] for one in order])
        given = copy(scope, given, [steps[one] for one in order], turned.shape, turned)
    return scope.call("mean_rows", given, given.count // size, size, scope.new(scope.shape(node)))


_SAME = """reshape view _unsafe_view flatten.using_ints squeeze squeeze.dim squeeze.dims unsqueeze contiguous clone
alias detach dropout dropout_ feature_dropout feature_dropout_ alpha_dropout lift_fresh_copy unflatten.int"""
_VIEWS = """transpose.int permute t numpy_T mT slice.Tensor select.int expand narrow chunk split.Tensor split_with_sizes
split.sizes unbind.int movedim.int movedim.intlist swapaxes swapdims tensor_split.sections"""


def _named(names: str) -> list[Any]:
    found = []
    for name in names.split():
        packet, _, overload = name.partition(".")
        if hasattr(aten, packet) and hasattr(getattr(aten, packet), overload or "default"):
            found.append(getattr(getattr(aten, packet), overload or "default"))
    return found


OPERATIONS: dict[Any, Any] = {
    **dict.fromkeys(_named(_SAME), same),
    **dict.fromkeys(_named(_VIEWS), view),
    **dict.fromkeys(_named("cat concat concatenate"), concatenate),
    **dict.fromkeys(_named("pad constant_pad_nd"), pad),
    **dict.fromkeys(_named("mean mean.dim"), mean),
}
"""Operation -> its lowering."""
