"""The layers in a flat graph: which operations use which weights, on maps of which sizes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from emomc.networks.layers import LayerCall, LayerShape

aten = torch.ops.aten

CONVOLUTIONS = {aten.conv1d.default, aten.conv1d.padding, aten.conv2d.default, aten.conv2d.padding}
TRANSPOSED = {aten.conv_transpose1d.default, aten.conv_transpose2d.input}
MATRIX_PRODUCTS = {aten.matmul.default, aten.mm.default, aten.bmm.default}
ATTENTION = aten.scaled_dot_product_attention.default
_TURNED = {aten.t.default, aten.transpose.int, aten.numpy_T.default, aten.mT.default}

Size = tuple[int, ...]


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return the arguments of a node; what they are follows from its operation."""
    return node.args


@dataclasses.dataclass(frozen=True)
class GraphLayer:
    """A layer and the nodes that call it."""

    shape: LayerShape
    nodes: tuple[fx.Node, ...]
    """In forward order; the input of each is its first argument."""
    bias: str | None
    """Name of the parameter that all calls add, where they add the same one and nothing else uses it."""
    has_bias: bool
    """Whether any call adds something."""
    weights: tuple[fx.Node, ...]
    """What holds or makes the weights of each call."""


class _SizeRecorder(fx.Interpreter):
    """Runs a graph and keeps the size of each tensor that it makes."""

    def __init__(self, module: fx.GraphModule) -> None:
        """Take the graph."""
        super().__init__(module)
        self.sizes: dict[fx.Node, Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.sizes[n] = tuple(result.shape)
        return result


@dataclasses.dataclass(frozen=True)
class TensorSizes:
    """The sizes of the tensors in a graph, for two images and for three.

    The difference is what one image adds: some tensors do not depend on the images at all.
    """

    of_two: dict[fx.Node, Size]
    of_three: dict[fx.Node, Size]

    def __contains__(self, node: fx.Node) -> bool:
        return node in self.of_two

    def __getitem__(self, node: fx.Node) -> Size:
        """Return the size for two images."""
        return self.of_two[node]

    def get(self, node: fx.Node) -> Size | None:
        """Return the size for two images; None for what is no tensor."""
        return self.of_two.get(node)

    def values_of_one(self, node: fx.Node) -> int:
        """Return how many values the tensor has for one image."""
        return 2 * math.prod(self.of_two[node]) - math.prod(self.of_three[node])

    def rows_of_one(self, node: fx.Node) -> int:
        """Return the extent of the first dimension for one image."""
        return 2 * self.of_two[node][0] - self.of_three[node][0]


def record_sizes(module: fx.GraphModule, image: Tensor) -> TensorSizes:
    """Return the sizes of the tensors in a graph.

    Args:
        module: the graph.
        image: a batch of one.
    """
    found = []
    for count in (2, 3):
        recorder = _SizeRecorder(module)
        with torch.no_grad():
            recorder.run(image.expand(count, *image.shape[1:]))
        found.append(recorder.sizes)
    return TensorSizes(*found)


@dataclasses.dataclass(frozen=True)
class _Use:
    """One call of a layer."""

    node: fx.Node
    kind: str
    weight: fx.Node
    """What holds or makes the weights."""
    bias: fx.Node | None
    calls: tuple[LayerCall, ...]
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    input_first: bool = False


def find_layers(module: fx.GraphModule, sizes: TensorSizes) -> list[GraphLayer]:
    """Return the layers of a graph in the order of their first call.

    Args:
        module: the graph.
        sizes: of its tensors.
    """
    parameters = dict(module.named_parameters())
    found: dict[str, list[_Use]] = {}
    stored: dict[str, str] = {}
    for node in module.graph.nodes:
        for use in _uses_of(node, sizes):
            key = str(use.weight.target) if use.weight.op == "get_attr" else ""
            own = key in parameters and use.kind != "product"
            name = _layer_name(key) if own else f"{node.name}.{use.kind}" if use.kind == "product" else node.name
            if not own:
                name = _free_name(name, found)
            found.setdefault(name, []).append(use)
            if own:
                stored[name] = key
    return [_layer(name, uses, stored.get(name)) for name, uses in found.items()]


def _layer(name: str, uses: list[_Use], key: str | None) -> GraphLayer:
    first = uses[0]
    shape = LayerShape(
        name=name,
        kind=first.kind,  # type: ignore[arg-type]
        in_channels=first.in_channels,
        out_channels=first.out_channels,
        calls=tuple(call for use in uses for call in use.calls),
        kernel_size=first.kernel,
        stride=first.stride,
        dilation=first.dilation,
        groups=first.groups,
        parameter="" if key is None or key == f"{name}.weight" else key,
        stored=key is not None,
        input_first=first.input_first,
    )
    biases = {use.bias for use in uses}
    one = next(iter(biases)) if len(biases) == 1 else None
    own = one is not None and one.op == "get_attr" and len(one.users) == len(uses)
    has_bias = any(use.bias is not None for use in uses)
    return GraphLayer(
        shape,
        tuple(use.node for use in uses),
        str(one.target) if own and one else None,
        has_bias,
        tuple(use.weight for use in uses),
    )


def _layer_name(key: str) -> str:
    return key.removesuffix(".weight") or key


def _free_name(name: str, taken: dict[str, Any]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _uses_of(node: fx.Node, sizes: TensorSizes) -> list[_Use]:
    """Return the multiplications of matrices or kernels that a node makes."""
    if node.op != "call_function" or node not in sizes:
        return []
    if node.target in CONVOLUTIONS:
        return [_convolution(node, sizes)]
    if node.target in TRANSPOSED:
        return [_convolution(node, sizes, transposed=True)]
    if node.target is aten.linear.default:
        return [_linear(node, arguments(node)[1], _argument(node, 2, "bias"), sizes, turned=True)]
    if node.target in MATRIX_PRODUCTS:
        weight, turned = _untransposed(arguments(node)[1])
        if weight.op == "get_attr" and len(sizes[weight]) == 2:
            return [_linear(node, weight, None, sizes, turned=turned)]
        return [_matrix_product(node, sizes)]
    if node.target is aten.einsum.default:
        return _einsum(node, sizes)
    if node.target is ATTENTION:
        return _attention(node, sizes)
    return []


def _argument(node: fx.Node, position: int, name: str, otherwise: Any = None) -> Any:
    return arguments(node)[position] if len(arguments(node)) > position else node.kwargs.get(name, otherwise)


def _untransposed(weight: fx.Node) -> tuple[fx.Node, bool]:
    """Return what a matrix is the transpose of, and whether it is one."""
    turned = False
    while weight.op == "call_function" and weight.target in _TURNED:
        weight, turned = arguments(weight)[0], not turned
    return weight, turned


def _two(values: Any, count: int = 2) -> tuple[int, int]:
    """Return a size over one or two dimensions as (height, width); a single number holds for all of them."""
    listed = [int(value) for value in values] if isinstance(values, Sequence) else [int(values)]
    if len(listed) == 1 and count == 2:
        listed *= 2
    return (1, listed[0]) if len(listed) == 1 else (listed[0], listed[1])


def _maps(size: Size, dimensions: int) -> tuple[int, int]:
    return (1, size[-1]) if dimensions == 1 else (size[-2], size[-1])


def _repeats(node: fx.Node, sizes: TensorSizes, dimensions: int) -> int:
    """Return how many maps an image has: frames of a video, say."""
    return max(1, sizes.rows_of_one(node)) if len(sizes[node]) == dimensions + 2 else 1


def _convolution(node: fx.Node, sizes: TensorSizes, *, transposed: bool = False) -> _Use:
    given, weight = arguments(node)[:2]
    shape = sizes[weight]
    dimensions = len(shape) - 2
    groups = int(_argument(node, 6, "groups", 1))
    # A transposed convolution has its input channels first, and the output padding before the dilation.
    inputs, outputs = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])
    call = LayerCall(_maps(sizes[given], dimensions), _maps(sizes[node], dimensions))
    return _Use(
        node,
        "conv_transpose" if transposed else "conv",
        weight,
        _argument(node, 2, "bias"),
        (call,) * _repeats(given, sizes, dimensions),
        in_channels=inputs,
        out_channels=outputs,
        kernel=_two(shape[2:], dimensions),
        stride=_two(_argument(node, 3, "stride", 1), dimensions),
        dilation=_two(_argument(node, 7 if transposed else 5, "dilation", 1), dimensions),
        groups=groups,
        input_first=transposed,
    )


def _linear(node: fx.Node, weight: fx.Node, bias: Any, sizes: TensorSizes, *, turned: bool) -> _Use:
    """Describe x @ weight, or x @ weight.T if ``turned``."""
    rows, columns = sizes[weight]
    features = (columns, rows) if turned else (rows, columns)
    positions = (1, max(1, sizes.values_of_one(node) // features[1]))
    call = LayerCall(positions, positions)
    own_bias = bias if isinstance(bias, fx.Node) else None
    return _Use(node, "linear", weight, own_bias, (call,), *features, input_first=not turned)


def _product(node: fx.Node, rows: int, inner: int, columns: int, groups: int) -> _Use:
    """Describe products of matrices, (rows x inner) x (inner x columns), as one linear layer of many groups."""
    positions = (1, rows)
    call = LayerCall(positions, positions)
    return _Use(node, "product", node, None, (call,), groups * inner, groups * columns, groups=groups)


def _matrix_product(node: fx.Node, sizes: TensorSizes) -> _Use:
    left, right = sizes[arguments(node)[0]], sizes[arguments(node)[1]]
    rows = left[-2] if len(left) > 1 else 1
    columns = right[-1] if len(right) > 1 else 1
    return _product(node, rows, left[-1], columns, max(1, sizes.values_of_one(node) // (rows * columns)))


def _attention(node: fx.Node, sizes: TensorSizes) -> list[_Use]:
    """Scores, queries x keys, and their products with the values."""
    query, key, value = (sizes[argument] for argument in arguments(node)[:3])
    groups = max(1, sizes.values_of_one(node) // (query[-2] * value[-1]))
    return [
        _product(node, query[-2], query[-1], key[-2], groups),
        _product(node, query[-2], key[-2], value[-1], groups),
    ]


def _einsum(node: fx.Node, sizes: TensorSizes) -> list[_Use]:
    """One product of two operands; what else ``einsum`` can do has no formula."""
    equation, operands = str(arguments(node)[0]).replace(" ", ""), arguments(node)[1]
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if not arrow or len(parts) != 2 or "." in equation or len(operands) != 2:
        return []
    extent = {
        letter: sizes[one][place]
        for part, one in zip(parts, operands, strict=True)
        for place, letter in enumerate(part)
    }
    left, right, kept = set(parts[0]), set(parts[1]), set(result)
    rows = math.prod(extent[letter] for letter in (left - right) & kept)
    columns = math.prod(extent[letter] for letter in (right - left) & kept)
    inner = math.prod(extent[letter] for letter in (left & right) - kept)
    groups = max(1, sizes.values_of_one(node) * 1 // max(1, rows * columns))
    # An image's own extent may be among the rows where the other operand has no images.
    if result and result[0] in (left - right):
        rows //= sizes[operands[0]][parts[0].index(result[0])]
        groups = max(1, sizes.values_of_one(node) // max(1, rows * columns))
    return [_product(node, rows, inner, columns, groups)]
