"""Operations that move numbers without changing them: views, copies, concatenation, repetition, padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import fx

from emomc.common.errors import UserError
from emomc.export.c.program import Constant, Numbers, Values
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
    arguments = [scope.argument(node, place, "") for place in range(1, len(node.args))]
    keywords = {name: scope.argument(node, len(node.args), name) for name in node.kwargs}
    found = node.target(_like(given), *arguments, **keywords)  # type: ignore[operator]
    if isinstance(found, torch.Tensor):
        return _viewed(scope, given, found)
    return [_viewed(scope, given, part) for part in found]


def parts(scope: Scope, given: Values, cut: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> list[Values]:
    """Return the parts of a tensor that a function of torch cuts from it."""
    return [_viewed(scope, given, part) for part in cut(_like(given))]


def _like(given: Values) -> torch.Tensor:
    return torch.empty(given.shape, device="meta")


def _viewed(scope: Scope, given: Values, found: torch.Tensor) -> Values:
    offset = given.offset + int(found.storage_offset())
    if found.is_contiguous():
        return Values(given.buffer, tuple(found.shape), offset)
    out = scope.new(found.shape)
    return copy(scope, Values(given.buffer, given.shape, offset), found.stride(), found.shape, out)


def copy(
    scope: Scope, given: Values | Constant, steps: Sequence[int], sizes: Sequence[int], out: Values, place: int = 0
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
    return _joined(scope, node, new=False)


def stack(scope: Scope, node: fx.Node) -> Values:
    """Tensors one after another along a dimension of their own."""
    return _joined(scope, node, new=True)


def _joined(scope: Scope, node: fx.Node, *, new: bool) -> Values:
    out = scope.new(scope.shape(node))
    dimension = int(scope.argument(node, 1, "dim", 0)) % len(out.shape)
    place = 0
    for source in cast("Sequence[fx.Node]", node.args[0]):
        part, shape = scope.operand(source)
        if new:
            shape = (*shape[:dimension], 1, *shape[dimension:])
        copy(scope, part, strides(shape), shape, out, place)
        place += math.prod(shape[dimension:])
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


def repeat(scope: Scope, node: fx.Node) -> Values:
    """A tensor several times along its dimensions, of which there may be new ones in front."""
    times = [int(one) for one in scope.argument(node, 1, "repeats")]
    given = scope.input(node)
    shape = (1,) * (len(times) - len(given.shape)) + given.shape
    return _repeated(scope, node, shape, times, [1] * len(times))


def repeat_numbers(scope: Scope, node: fx.Node) -> Values:
    """A tensor with each part along a dimension several times.

    Raises:
        UserError: there is no dimension.
    """
    dimension, shape = scope.argument(node, 2, "dim"), scope.input(node).shape
    if dimension is None:
        raise UserError(f"expected operations that can be written in C, found {describe(node)} over all dimensions")
    times = [1] * len(shape)
    times[dimension] = int(scope.argument(node, 1, "repeats"))
    return _repeated(scope, node, shape, [1] * len(shape), times)


def enlarge(scope: Scope, node: fx.Node) -> Values:
    """Each pixel a whole number of times: interpolation to the nearest.

    Raises:
        UserError: a side does not grow by a whole factor.
    """
    shape, out = scope.input(node).shape, scope.shape(node)
    sides = len(shape) - 2
    factors = scope.argument(node, 2, "scale_factors") or [out[2 + d] / shape[2 + d] for d in range(sides)]
    if not all(float(factor).is_integer() and factor >= 1 for factor in factors):
        found = " x ".join(f"{factor:g}" for factor in factors)
        raise UserError(f"expected interpolation by whole factors in C, found {describe(node)} by {found}")
    return _repeated(scope, node, shape, [1] * len(shape), [1, 1, *map(int, factors)])


def _repeated(
    scope: Scope, node: fx.Node, shape: Sequence[int], wholes: Sequence[int], singles: Sequence[int]
) -> Values:
    """Copy a tensor of a shape with each dimension repeated as a whole, and each of its numbers."""
    steps, repeats = strides(shape), zip(wholes, shape, singles, strict=True)
    moves = [move for step in steps for move in (0, step, 0)]
    grid = [(size, move) for size, move in zip(chain.from_iterable(repeats), moves, strict=True) if size != 1]
    sizes, moves = [size for size, _ in grid], [move for _, move in grid]
    copied = copy(scope, scope.input(node), moves, sizes, scope.new(sizes))
    return Values(copied.buffer, scope.shape(node))


def expand_as(scope: Scope, node: fx.Node) -> Values:
    """A tensor repeated along dimensions of size 1."""
    given = scope.input(node)
    return _viewed(scope, given, _like(given).expand(scope.shape(node)))


def rearrange(turned: Callable[[torch.Tensor, int], torch.Tensor]) -> Callable[[Scope, fx.Node], Values]:
    """Return the lowering of views of a tensor, which a number describes, and a copy of what they give."""

    def lower(scope: Scope, node: fx.Node) -> Values:
        given = scope.input(node)
        found = turned(_like(given), int(scope.argument(node, 1, "")))
        copied = _viewed(scope, given, found)
        return Values(copied.buffer, scope.shape(node), copied.offset)

    return lower


def _pixels_of_channels(maps: torch.Tensor, factor: int) -> torch.Tensor:
    channels, height, width = maps.shape[-3:]
    return maps.view(-1, channels // factor**2, factor, factor, height, width).permute(0, 1, 4, 2, 5, 3)


def _channels_of_pixels(maps: torch.Tensor, factor: int) -> torch.Tensor:
    channels, height, width = maps.shape[-3:]
    return maps.view(-1, channels, height // factor, factor, width // factor, factor).permute(0, 1, 3, 5, 2, 4)


def _shuffled(maps: torch.Tensor, groups: int) -> torch.Tensor:
    images, channels = maps.shape[:2]
    return maps.view(images, groups, channels // groups, -1).transpose(1, 2)


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
    aten.stack.default: stack,
    **dict.fromkeys(_named("pad constant_pad_nd"), pad),
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_numbers,
    **dict.fromkeys(_named("upsample_nearest1d.vec upsample_nearest2d.vec"), enlarge),
    aten.expand_as.default: expand_as,
    aten.pixel_shuffle.default: rearrange(_pixels_of_channels),
    aten.pixel_unshuffle.default: rearrange(_channels_of_pixels),
    **dict.fromkeys(_named("channel_shuffle native_channel_shuffle"), rearrange(_shuffled)),
}
"""Operation -> its lowering."""
