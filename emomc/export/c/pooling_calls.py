"""Pooling, as calls."""

from __future__ import annotations

from typing import Any

from torch import fx

from emomc.export.c.program import Values
from emomc.export.c.scope import Scope, pair
from emomc.export.c.windows import padding_before, window_fields, window_shape


def max_pooling(scope: Scope, node: fx.Node) -> Values:
    """The largest of each window."""
    given, out, window = _pooling(scope, node, scope.argument(node, 4, "dilation", 1))
    return scope.call("pool_max", given, _channels(given, window), window_shape(window), out)


def average_pooling(scope: Scope, node: fx.Node) -> Values:
    """The average of each window."""
    given, out, window = _pooling(scope, node, 1)
    divisor = scope.argument(node, 6, "divisor_override")
    if divisor is None:
        divisor = 0 if scope.argument(node, 5, "count_include_pad", True) else -1
    return scope.call("pool_average", given, _channels(given, window), window_shape(window), divisor, out)


def _pooling(scope: Scope, node: fx.Node, dilation: Any) -> tuple[Values, Values, dict[str, int]]:
    given, out = scope.input(node), scope.shape(node)
    dimensions = 1 if "pool1d" in str(node.target) else 2
    kernel = scope.argument(node, 1, "kernel_size")
    window = window_fields(
        given.shape[-dimensions:],
        out[-dimensions:],
        pair(kernel, dimensions),
        pair(scope.argument(node, 2, "stride", None) or kernel, dimensions),
        pair(dilation, dimensions),
    )
    window["top"], window["left"] = padding_before(scope.argument(node, 3, "padding", 0), dimensions, (1, 1), (1, 1))
    return given, scope.new(out), window


def _channels(given: Values, window: dict[str, int]) -> int:
    return given.count // (window["height"] * window["width"])


def adaptive_pooling(scope: Scope, node: fx.Node) -> Values:
    """Averages of windows that cover the map."""
    return _adaptive(scope, node, "pool_adaptive")


def adaptive_max_pooling(scope: Scope, node: fx.Node) -> list[Values | None]:
    """The largest of windows that cover the map; where they are is not written in C."""
    return [_adaptive(scope, node, "pool_adaptive_max"), None]


def _adaptive(scope: Scope, node: fx.Node, function: str) -> Values:
    given, out = scope.input(node), scope.shape(node)
    dimensions = 1 if "pool1d" in str(node.target) else 2
    height, width = (1, given.shape[-1]) if dimensions == 1 else given.shape[-2:]
    out_height, out_width = (1, out[-1]) if dimensions == 1 else out[-2:]
    channels = given.count // (height * width)
    return scope.call(function, given, channels, height, width, out_height, out_width, scope.new(out))
