"""From the graph of a packed network to a program of calls."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from emomc.common.errors import UserError
from emomc.compression.activations import insert_before_layers
from emomc.export.c import elementwise_calls, reduction_calls, shape_calls
from emomc.export.c.layer_calls import convolution, linear, transposed_convolution
from emomc.export.c.pooling_calls import adaptive_max_pooling, adaptive_pooling, average_pooling, max_pooling
from emomc.export.c.program import Buffer, Program, Values
from emomc.export.c.scope import Scope, describe
from emomc.export.loading import unpack_folded
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph_layers import CONVOLUTIONS, MATRIX_PRODUCTS, TRANSPOSED
from emomc.packed_file.network import PackedNetwork

aten = torch.ops.aten

OPERATIONS: Mapping[Any, Callable[[Scope, fx.Node], Any]] = {
    **elementwise_calls.OPERATIONS,
    **shape_calls.OPERATIONS,
    **reduction_calls.OPERATIONS,
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(TRANSPOSED, transposed_convolution),
    **dict.fromkeys([aten.linear.default, *MATRIX_PRODUCTS], linear),
    **dict.fromkeys([aten.max_pool1d.default, aten.max_pool2d.default], max_pooling),
    **dict.fromkeys([aten.avg_pool1d.default, aten.avg_pool2d.default], average_pooling),
    **dict.fromkeys([aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default], adaptive_pooling),
    **dict.fromkeys([aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default], adaptive_max_pooling),
}
"""Operation of the graph -> its lowering."""


def lower_network(packed: PackedNetwork, network: nn.Module | None = None) -> Program:
    """Return a packed network as a program of floats for one image.

    Args:
        packed: the network.
        network: as for ``load_compressed``: a user's network before folding.

    Raises:
        UserError: the network has operations that cannot be written in C.
    """
    return lower_folded(unpack_folded(packed, network), packed)


def lower_folded(folded: FoldedNetwork, packed: PackedNetwork) -> Program:
    """Return a packed network as a program of floats for one image.

    Args:
        folded: the network, with its biases; it is changed.
        packed: its layers and grids.

    Raises:
        UserError: the network has operations that cannot be written in C.
    """
    stored = {layer.name: layer for layer in packed.layers}
    layers = {
        node: (folded.graph.layer(name), stored.get(name)) for name, nodes in folded.calls.items() for node in nodes
    }
    marks = insert_before_layers(folded, lambda layer: nn.Identity(), "layer_input")
    grids = {mark: stored[name].inputs for name, mark in marks.items()}
    unknown = sorted({describe(node) for node in _image_nodes(folded) if not _is_known(node)})
    if unknown:
        raise UserError(f"expected operations that can be written in C, found {', '.join(unknown)}")

    with torch.no_grad():
        recorder = _Recorder(folded.module)
        scores = recorder.run(torch.zeros(1, *packed.description.input_shape))
    if scores.dtype != torch.float32:
        raise UserError(f"expected a network that computes in float32, found {scores.dtype}")
    scope = Scope(recorder.results, layers)
    image = Values(Buffer(int(np.prod(packed.description.input_shape))), (1, *packed.description.input_shape))
    dependent = _image_nodes(folded)
    for node in folded.module.graph.nodes:
        if node.op == "placeholder":
            scope.values[node] = image
        elif node.op == "output":
            answer = cast(fx.Node, node.args[0])
        elif node in dependent and isinstance(recorder.results[node], (Tensor, tuple, list)):
            scope.values[node] = _lower(scope, node, grids)
            _follow_writes(scope, node)
    return Program(tuple(scope.calls), image, scope.values[answer])


def _lower(scope: Scope, node: fx.Node, grids: Mapping[str, Any]) -> Any:
    if node.op == "call_module":
        given, grid = scope.input(node), grids[str(node.target)]
        if grid is None:
            return given
        bounds = (float(np.float32(code * grid.step)) for code in (grid.lowest, grid.highest))
        out = scope.new(given.shape)
        return scope.call("round_inputs", given, given.count, *bounds, grid.step, out, in_place=(given,), grid=grid)
    if node.target is operator.getitem:
        return scope.values[node.args[0]][node.args[1]]  # type: ignore[index]
    return OPERATIONS[node.target](scope, node)


def _follow_writes(scope: Scope, node: fx.Node) -> None:
    """After an operation that writes over its input, let the names of the input mean what was written.

    Raises:
        UserError: what was written over is part of another tensor that is still used.
    """
    if not _writes_over(node):
        return
    before, after = scope.input(node), scope.values[node]
    order = list(node.graph.nodes)
    later = set(order[order.index(node) + 1 :])
    for other, values in list(scope.values.items()):
        if other is node or not later & other.users.keys() or not scope.shares_memory(other, node):
            continue
        same = isinstance(values, Values) and values.buffer is before.buffer
        if not same or (values.offset, values.count) != (before.offset, before.count):
            raise UserError(f"expected operations that can be written in C, found {describe(node)} on part of a tensor")
        scope.values[other] = Values(after.buffer, values.shape, after.offset)


def _writes_over(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _is_known(node: fx.Node) -> bool:
    known = node.op in ("placeholder", "output", "call_module") or node.target in OPERATIONS
    return known or node.target is operator.getitem


def _makes_sizes(node: fx.Node) -> bool:
    """Whether an operation computes sizes: others are on tensors, or take one of several."""
    name = str(node.target)
    on_tensors = name.startswith("aten.") and not name.startswith("aten.sym_")
    return node.op == "call_function" and not on_tensors and node.target is not operator.getitem


def _image_nodes(folded: FoldedNetwork) -> set[fx.Node]:
    """Return the nodes that depend on the image, and not only on its size, which is known."""
    found: set[fx.Node] = set()
    for node in folded.module.graph.nodes:
        depends = node.op == "placeholder" or any(one in found for one in node.all_input_nodes)
        if depends and not _makes_sizes(node):
            found.add(node)
    return found


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what each node gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.results: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        result = self.results[n] = super().run_node(n)
        return result
