"""The layers that have weights, as calls."""

from __future__ import annotations

import torch
from torch import fx

from emomc.common.errors import UserError
from emomc.export.c.program import Values
from emomc.export.c.scope import Scope, describe, pair
from emomc.export.c.windows import padding_before, window_fields, window_shape

aten = torch.ops.aten


def convolution(scope: Scope, node: fx.Node) -> Values:
    """A convolution over one or two dimensions."""
    return _convolve(scope, node, transposed=False)


def transposed_convolution(scope: Scope, node: fx.Node) -> Values:
    """A transposed convolution over one or two dimensions."""
    return _convolve(scope, node, transposed=True)


def _convolve(scope: Scope, node: fx.Node, *, transposed: bool) -> Values:
    given, (shape, packed) = scope.input(node), scope.layer(node)
    out = scope.shape(node)
    dimensions = packed.codes.ndim - 2
    if len(out) != dimensions + 2 or given.shape[0] != 1:
        raise UserError(f"expected convolutions of one image at a time in C, found {describe(node)} of {given.shape}")
    dilation = pair(scope.argument(node, 7 if transposed else 5, "dilation", 1), dimensions)
    top, left = padding_before(scope.argument(node, 4, "padding", 0), dimensions, shape.kernel_size, dilation)
    window = window_fields(
        given.shape[2:], out[2:], shape.kernel_size, pair(scope.argument(node, 3, "stride", 1), dimensions), dilation
    )
    window |= {"top": top, "left": left}
    sizes = shape.in_channels, shape.out_channels, shape.groups
    bias = scope.shared_constant(node, 2, "bias")
    name = "convolve_transposed" if transposed else "convolve"
    return scope.call(name, given, packed, bias, *sizes, window_shape(window), scope.new(out))


def linear(scope: Scope, node: fx.Node) -> Values:
    """A linear layer on one or more rows."""
    given, (shape, packed) = scope.input(node), scope.layer(node)
    bias = scope.shared_constant(node, 2, "bias") if node.target is aten.linear.default else None
    rows = given.count // shape.in_channels
    out = scope.new(scope.shape(node))
    return scope.call("linear", given, packed, bias, rows, shape.in_channels, shape.out_channels, out)
