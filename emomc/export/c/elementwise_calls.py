"""Activation functions, sums and products of tensors, norms and softmax, as calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from emomc.common.errors import UserError
from emomc.export.c.program import Constant, Numbers, Values
from emomc.export.c.scope import Scope, constant, describe
from emomc.export.c.shape_calls import parts

aten = torch.ops.aten
Lowering = Callable[[Scope, fx.Node], Values]

ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
_DIMENSIONS = 4
"""Of a tensor that ``combine`` takes."""


def activation(kernel: str, *defaults: tuple[str, float]) -> Lowering:
    """Return the lowering of a function of each number, with parameters (name, default) after the input."""

    def lower(scope: Scope, node: fx.Node) -> Values:
        parameters = [scope.argument(node, 1 + place, *default) for place, default in enumerate(defaults)]
        return each(scope, node, kernel, *map(float, parameters))

    return lower


def each(scope: Scope, node: fx.Node, kernel: str, *parameters: float) -> Values:
    """Call a function of each number of a node's input."""
    return _of_each(scope, scope.input(node), kernel, *parameters)


def _of_each(scope: Scope, given: Values, kernel: str, *parameters: float) -> Values:
    return scope.call(kernel, given, given.count, *parameters, scope.new(given.shape), in_place=(given,))


def clip(scope: Scope, node: fx.Node) -> Values:
    """A clip between two bounds, of which one may be missing."""
    bounds = scope.argument(node, 1, "min"), scope.argument(node, 2, "max")
    lowest, highest = (
        bound if found is None else float(found) for found, bound in zip(bounds, (-math.inf, math.inf), strict=True)
    )
    return each(scope, node, "clip", lowest, highest)


def clip_below(scope: Scope, node: fx.Node) -> Values:
    """A clip to a lower bound."""
    return each(scope, node, "clip", float(scope.argument(node, 1, "min")), math.inf)


def clip_above(scope: Scope, node: fx.Node) -> Values:
    """A clip to an upper bound."""
    return each(scope, node, "clip", -math.inf, float(scope.argument(node, 1, "max")))


def relu6(scope: Scope, node: fx.Node) -> Values:
    """A clip from 0 to 6."""
    return each(scope, node, "clip", 0.0, 6.0)


def hardtanh(scope: Scope, node: fx.Node) -> Values:
    """A clip, from -1 to 1 if not otherwise said."""
    return each(
        scope,
        node,
        "clip",
        float(scope.argument(node, 1, "min_val", -1.0)),
        float(scope.argument(node, 2, "max_val", 1.0)),
    )


def gelu(scope: Scope, node: fx.Node) -> Values:
    """GELU, exact or approximate."""
    return each(scope, node, "gelu_tanh" if scope.argument(node, 1, "approximate", "none") == "tanh" else "gelu")


def selu(scope: Scope, node: fx.Node) -> Values:
    """SELU. Source of the constants: Klambauer et al., arXiv:1706.02515."""
    return each(scope, node, "elu", 1.6732632423543772, 1.0507009873554805, 1.0)


def celu(scope: Scope, node: fx.Node) -> Values:
    """ELU whose slope is continuous."""
    alpha = float(scope.argument(node, 1, "alpha", 1.0))
    return each(scope, node, "elu", alpha, 1.0, 1 / alpha)


def prelu(scope: Scope, node: fx.Node) -> Values:
    """A slope for each channel, or one for all, where the input is negative."""
    given, slopes = scope.input(node), scope.shared_constant(node, 1, "weight")
    channels = 1 if slopes is None or slopes.numbers.size == 1 else given.shape[1]
    return scope.call(
        "prelu", given, channels, given.count // channels, slopes, scope.new(scope.shape(node)), in_place=(given,)
    )


def power_of(exponent: float | None = None) -> Lowering:
    """Return the lowering of a power with an exponent; None: as the node says."""

    def lower(scope: Scope, node: fx.Node) -> Values:
        own = scope.argument(node, 1, "exponent") if exponent is None else exponent
        return power(scope, scope.input(node), float(own))

    return lower


def power(scope: Scope, given: Values, exponent: float) -> Values:
    """A power of each number; of 2, a product, which takes less time."""
    if exponent == 2:
        return combine(scope, [(given, given.shape)] * 2, MULTIPLY, given.shape)
    return _of_each(scope, given, "power", exponent)


def glu(scope: Scope, node: fx.Node) -> Values:
    """One half of the channels times the sigmoid of the other."""
    dimension = int(scope.argument(node, 1, "dim", -1))
    half, gate = parts(scope, scope.input(node), lambda tensor: tensor.chunk(2, dimension))
    gate = _of_each(scope, gate, "sigmoid")
    return combine(scope, [(half, half.shape), (gate, gate.shape)], MULTIPLY, half.shape)


def negative(scope: Scope, node: fx.Node) -> Values:
    """A tensor with the opposite sign."""
    return negate(scope, scope.input(node))


def negate(scope: Scope, given: Values) -> Values:
    """A difference from 0, which integers know."""
    return combine(scope, [(constant(torch.tensor(0.0)), ()), (given, given.shape)], SUBTRACT, given.shape)


def combination(operation: int, *, turned: bool = False) -> Lowering:
    """Return the lowering of a sum, difference, product or quotient of two tensors, or of a tensor and a number.

    Args:
        operation: which.
        turned: whether the second operand comes first.
    """

    def lower(scope: Scope, node: fx.Node) -> Values:
        if scope.argument(node, 2, "alpha", 1) != 1 or node.kwargs.get("rounding_mode") is not None:
            raise UserError(f"expected operations that can be written in C, found {describe(node)} with a factor")
        operands = [_operand(scope, node, position) for position in ((1, 0) if turned else (0, 1))]
        return combine(scope, operands, operation, scope.shape(node))

    return lower


def _operand(scope: Scope, node: fx.Node, position: int) -> tuple[Values | Constant, tuple[int, ...]]:
    source = node.args[position]
    if isinstance(source, fx.Node) and isinstance(scope.argument(node, position, "other"), (fx.Node, Tensor)):
        return scope.operand(source)
    return constant(torch.tensor(float(scope.argument(node, position, "other")))), ()


def combine(
    scope: Scope, operands: list[tuple[Values | Constant, tuple[int, ...]]], operation: int, out: tuple[int, ...]
) -> Values:
    """Call ``combine`` for two operands, each with its shape.

    Raises:
        UserError: they repeat along more dimensions than the function has.
    """
    sizes, steps = _merged(out, [_steps(shape, out) for _, shape in operands])
    if len(sizes) > _DIMENSIONS:
        raise UserError(f"expected sums of at most {_DIMENSIONS} dimensions in C, found {len(sizes)}")
    front = _DIMENSIONS - len(sizes)
    padded = [Numbers((0,) * front + tuple(part)) for part in steps]
    full = tuple(one for one, shape in operands if isinstance(one, Values) and shape == out)
    (a, _), (b, _) = operands
    grid = Numbers((1,) * front + tuple(sizes))
    return scope.call("combine", a, padded[0], b, padded[1], grid, operation, scope.new(out), in_place=full)


def _steps(shape: tuple[int, ...], out: tuple[int, ...]) -> list[int]:
    """Return by how many numbers each dimension of the result moves in an operand; 0 where it repeats."""
    padded = (1,) * (len(out) - len(shape)) + shape
    return [0 if padded[d] == 1 else math.prod(padded[d + 1 :]) for d in range(len(out))]


def _merged(sizes: tuple[int, ...], steps: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Join neighbouring dimensions over which all operands move as over one."""
    found: list[int] = []
    joined: list[list[int]] = [[] for _ in steps]
    for d, size in enumerate(sizes):
        if size == 1:
            continue
        if found and all(parts[-1] == part[d] * size for parts, part in zip(joined, steps, strict=True)):
            found[-1] *= size
            for parts, part in zip(joined, steps, strict=True):
                parts[-1] = part[d]
            continue
        found.append(size)
        for parts, part in zip(joined, steps, strict=True):
            parts.append(part[d])
    return found or [1], [part or [0] for part in joined]


def batch_norm(scope: Scope, node: fx.Node) -> Values:
    """A BatchNorm that was not folded: a factor and a shift for each channel."""
    given = scope.input(node)
    gamma, beta, mean, variance = (
        scope.argument(node, place, name)
        for place, name in enumerate(("weight", "bias", "running_mean", "running_var"), 1)
    )
    if scope.argument(node, 5, "training") or mean is None or variance is None:
        raise UserError("expected norms with running statistics in C, found one without")
    factors = (1 if gamma is None else gamma.double()) / (variance.double() + scope.argument(node, 7, "eps")).sqrt()
    shifts = (0 if beta is None else beta.double()) - mean.double() * factors
    return _scaled(scope, given, factors, shifts)


def _scaled(scope: Scope, given: Values, factors: Tensor, shifts: Tensor) -> Values:
    channels = given.shape[1]
    pixels = given.count // given.shape[0] // channels
    if given.shape[0] != 1:
        raise UserError(f"expected norms of one image at a time in C, found {given.shape}")
    numbers = constant(factors), constant(shifts)
    return scope.call("scale_channels", given, channels, pixels, *numbers, scope.new(given.shape), in_place=(given,))


def group_norm(scope: Scope, node: fx.Node) -> Values:
    """Normalisation of groups of channels."""
    given, groups = scope.input(node), int(scope.argument(node, 1, "num_groups"))
    return _normalised(
        scope,
        given,
        groups,
        float(scope.argument(node, 4, "eps", 1e-5)),
        scope.argument(node, 2, "weight"),
        scope.argument(node, 3, "bias"),
    )


def instance_norm(scope: Scope, node: fx.Node) -> Values:
    """Normalisation of each channel by itself."""
    given = scope.input(node)
    if not scope.argument(node, 5, "use_input_stats", True):
        raise UserError("expected instance norms without running statistics in C, found one with them")
    epsilon = float(scope.argument(node, 7, "eps", 1e-5))
    affine = scope.argument(node, 1, "weight"), scope.argument(node, 2, "bias")
    return _normalised(scope, given, given.shape[1], epsilon, *affine)


def _normalised(
    scope: Scope, given: Values, groups: int, epsilon: float, gamma: Tensor | None, beta: Tensor | None
) -> Values:
    found = _normalised_rows(scope, given, given.count // groups, epsilon)
    if gamma is None and beta is None:
        return found
    channels = given.shape[1]
    factors = torch.ones(channels) if gamma is None else gamma
    return _scaled(scope, found, factors, torch.zeros(channels) if beta is None else beta)


def layer_norm(scope: Scope, node: fx.Node) -> Values:
    """Normalisation over the last dimensions."""
    given, over = scope.input(node), tuple(scope.argument(node, 1, "normalized_shape"))
    found = _normalised_rows(scope, given, math.prod(over), float(scope.argument(node, 4, "eps", 1e-5)))
    for place, name, operation in ((2, "weight", MULTIPLY), (3, "bias", ADD)):
        number = scope.shared_constant(node, place, name)
        if number is not None:
            found = combine(scope, [(found, given.shape), (number, over)], operation, given.shape)
    return found


def rms_norm(scope: Scope, node: fx.Node) -> Values:
    """Division by the root of the mean square over the last dimensions."""
    given, over = scope.input(node), tuple(scope.argument(node, 1, "normalized_shape"))
    epsilon = scope.argument(node, 3, "eps")
    epsilon = torch.finfo(torch.float32).eps if epsilon is None else float(epsilon)
    found = _normalised_rows(scope, given, math.prod(over), epsilon, centred=False)
    weight = scope.shared_constant(node, 2, "weight")
    if weight is None:
        return found
    return combine(scope, [(found, given.shape), (weight, over)], MULTIPLY, given.shape)


def _normalised_rows(scope: Scope, given: Values, size: int, epsilon: float, *, centred: bool = True) -> Values:
    rows = given.count // size
    return scope.call("normalise", given, rows, size, int(centred), epsilon, scope.new(given.shape), in_place=(given,))


def softmax(*, logarithm: bool) -> Lowering:
    """Return the lowering of softmax or of its logarithm."""

    def lower(scope: Scope, node: fx.Node) -> Values:
        given = scope.input(node)
        dimension = int(scope.argument(node, 1, "dim")) % len(given.shape)
        outer, inner = math.prod(given.shape[:dimension]), math.prod(given.shape[dimension + 1 :])
        out = scope.new(given.shape)
        sizes = outer, given.shape[dimension], inner
        return scope.call("softmax", given, *sizes, int(logarithm), out, in_place=(given,))

    return lower


def _named(*names: str) -> list[Any]:
    """Return the operations of these names, and those that write over their input."""
    found = []
    for name in names:
        packet, _, overload = name.partition(".")
        for one in (packet, f"{packet}_"):
            if hasattr(aten, one) and hasattr(getattr(aten, one), overload or "default"):
                found.append(getattr(getattr(aten, one), overload or "default"))
    return found


def _table(entries: dict[Lowering, tuple[str, ...]]) -> dict[Any, Lowering]:
    return {operation: lowering for lowering, names in entries.items() for operation in _named(*names)}


OPERATIONS = _table(
    {
        activation("relu"): ("relu",),
        relu6: ("relu6",),
        clip: ("clamp",),
        clip_below: ("clamp_min",),
        clip_above: ("clamp_max",),
        hardtanh: ("hardtanh",),
        activation("leaky_relu", ("negative_slope", 0.01)): ("leaky_relu",),
        activation("elu", ("alpha", 1.0), ("scale", 1.0), ("input_scale", 1.0)): ("elu",),
        selu: ("selu",),
        celu: ("celu",),
        prelu: ("prelu",),
        activation("sigmoid"): ("sigmoid",),
        activation("silu"): ("silu",),
        activation("hyperbolic_tangent"): ("tanh",),
        activation("hardsigmoid"): ("hardsigmoid",),
        activation("hardswish"): ("hardswish",),
        activation("softplus", ("beta", 1.0), ("threshold", 20.0)): ("softplus",),
        activation("mish"): ("mish",),
        activation("absolute"): ("abs",),
        activation("exponential"): ("exp",),
        activation("natural_logarithm"): ("log",),
        gelu: ("gelu",),
        glu: ("glu",),
        power_of(): ("pow.Tensor_Scalar",),
        power_of(2.0): ("square",),
        power_of(0.5): ("sqrt",),
        power_of(-0.5): ("rsqrt",),
        power_of(-1.0): ("reciprocal",),
        negative: ("neg",),
        combination(SUBTRACT, turned=True): ("rsub.Tensor", "rsub.Scalar"),
        combination(ADD): ("add.Tensor", "add.Scalar"),
        combination(SUBTRACT): ("sub.Tensor", "sub.Scalar"),
        combination(MULTIPLY): ("mul.Tensor", "mul.Scalar"),
        combination(DIVIDE): ("div.Tensor", "div.Scalar"),
        batch_norm: ("batch_norm",),
        group_norm: ("group_norm",),
        instance_norm: ("instance_norm",),
        layer_norm: ("layer_norm",),
        rms_norm: ("rms_norm",),
        softmax(logarithm=False): ("softmax.int",),
        softmax(logarithm=True): ("log_softmax.int",),
    }
)
"""Operation -> its lowering."""
