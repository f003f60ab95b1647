"""Following channels through a graph: every value of every tensor carries the label of the channel that it comes from.

Operations that move values (``reshape``, ``cat``, ``split``...) are run on the labels themselves. Those that combine
values make labels equal. Whatever else an operation does, the channels that reach it are kept: it is always right to
keep one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from emomc.networks.graph_layers import ATTENTION, GraphLayer, arguments
from emomc.networks.label_tensors import (
    KEPT,
    all_tensors,
    first_along,
    kept_like,
    look_up,
    map_dimensions,
    operation_on_labels,
    smallest_equal,
    spread_along,
    varying,
)
from emomc.networks.layers import LayerShape

aten = torch.ops.aten

_MOVING = {
    operator.getitem,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.cat.default,
    aten.stack.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.unbind.int,
    aten.unsqueeze.default,
    aten.squeeze.dims,
    aten.squeeze.dim,
    aten.expand.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.constant_pad_nd.default,
    aten.pad.default,
}
"""Operations whose results are values of their inputs, in other places; a padding is labelled as kept."""

PARTS = {operator.getitem, aten.slice.Tensor}
"""Those whose results are parts of their inputs."""

_BY_MAP = {
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_bilinear2d.vec,
}
"""Operations on the map of each channel alone."""

_POINTWISE = {aten.hardswish.default, aten.hardswish_.default, aten.dropout.default, aten.dropout_.default}
"""Operations on each value alone that torch does not mark as such."""

_OVER_DIMENSIONS = {aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.softmax.int, aten.log_softmax.int}
"""Operations that combine the values along some dimensions, their second argument."""


class ChannelLabels(fx.Interpreter):
    """Runs a graph on two images and labels its tensors; of labels that must go together, one stands for all."""

    def __init__(self, module: fx.GraphModule, layers: tuple[GraphLayer, ...], kept_layers: frozenset[str]) -> None:
        """Prepare.

        Args:
            module: the graph.
            layers: of the graph.
            kept_layers: names of layers that keep all their channels.
        """
        super().__init__(module)
        stored = [layer for layer in layers if layer.shape.stored]
        self._layer_of = {node: layer for layer in stored for node in layer.nodes}
        self._weights = {weight for layer in stored for weight in layer.weights}
        self._kept_layers = kept_layers
        self.count = 1
        """Number of labels that were given, with those that others now stand for."""
        self._equal: list[Tensor] = []
        self.labels: dict[fx.Node, Tensor] = {}
        """Node -> labels of its values, of the shape of its tensor for two images."""
        self.parameters: dict[str, Tensor] = {}
        """Name of a parameter or buffer -> labels of its values; without the weights of layers."""
        self.rows: dict[str, Tensor] = {}
        """Layer name -> label of each output channel."""
        self.columns: dict[str, Tensor] = {}
        """Layer name -> label of each input channel."""

    def label(self, image: Tensor) -> None:
        """Label every tensor.

        Args:
            image: a batch of one.
        """
        with torch.no_grad():
            self.run(image.expand(2, *image.shape[1:]))
        for layer in self._layer_of.values():
            # A weight that is used otherwise, too, keeps its shape.
            others = any(user not in self._layer_of for weight in layer.weights for user in weight.users)
            if others or layer.shape.name in self._kept_layers:
                self._keep(self.rows.get(layer.shape.name), self.columns.get(layer.shape.name))
        self._settle()

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and label what it makes."""
        result = super().run_node(n)
        if n.op == "output":
            self._keep(*(self.labels.get(node) for node in n.all_input_nodes))
        elif n in self._weights:
            self.labels[n] = kept_like(result)
        elif n.op == "get_attr" and isinstance(result, Tensor):
            self.labels[n] = self._of_parameter(str(n.target), result)
        elif isinstance(result, (Tensor, tuple, list)):
            self.labels[n] = self._of_result(n, result)
        return result

    def _of_parameter(self, name: str, value: Tensor) -> Tensor:
        if name not in self.parameters:
            self.parameters[name] = self._new(value.numel()).view(value.shape)
        return self.parameters[name]

    def _of_result(self, node: fx.Node, result: Any) -> Any:
        if node.op == "placeholder":
            return kept_like(result)
        if node in self._layer_of:
            return self._of_layer(node, self._layer_of[node].shape, result)
        if node.target in _MOVING and self._can_move(node):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._label_or_value)
            return operation_on_labels(node.target)(*args, **kwargs)
        known = [node for node in node.all_input_nodes if node in self.labels]
        handle = self._handler(node)
        found = handle(node, result) if handle and isinstance(result, Tensor) else None
        if found is None:
            self._keep(*(self.labels[one] for one in known))
            found = kept_like(result)
        return found

    def _handler(self, node: fx.Node) -> Callable[[fx.Node, Tensor], Tensor | None] | None:
        if node.target is aten.batch_norm.default:
            return self._of_norm
        if node.target in _BY_MAP:
            return self._of_maps
        if node.target in _OVER_DIMENSIONS:
            return self._of_reduction
        if node.target is ATTENTION:
            return self._of_attention
        if node.target in _POINTWISE or torch.Tag.pointwise in getattr(node.target, "tags", ()):
            return self._of_pointwise
        return None

    def _label_or_value(self, node: fx.Node) -> Any:
        return self.labels[node] if node in self.labels else self.env[node]

    def _can_move(self, node: fx.Node) -> bool:
        """Say whether the operation's labels are those of its inputs, and its sizes can be changed with them."""
        given = arguments(node)
        if node.target is aten.slice.Tensor:
            return (given[4] if len(given) > 4 else 1) == 1
        if node.target is aten.pad.default:
            return len(given) < 3 or given[2] == "constant"
        return True

    def _of_layer(self, node: fx.Node, shape: LayerShape, result: Tensor) -> Tensor:
        given = self.labels[arguments(node)[0]]
        dimension = given.ndim - 1 if shape.kind == "linear" else given.ndim - 1 - map_dimensions(node)
        simple = shape.kind in ("conv", "linear") or (shape.kind == "conv_transpose" and shape.groups == 1)
        if not simple or shape.in_channels != given.shape[dimension]:
            self._keep(*(self.labels[one] for one in node.all_input_nodes if one in self.labels))
            return torch.zeros_like(result, dtype=torch.int64)
        name = shape.name
        if name not in self.rows:
            self.rows[name] = self._new(shape.out_channels)
            self.columns[name] = self._new(shape.in_channels)
            self._tie_groups(shape)
        self._equate(given, spread_along(self.columns[name], dimension, given))
        bias = arguments(node)[2] if len(arguments(node)) > 2 else node.kwargs.get("bias")
        if isinstance(bias, fx.Node):
            self._equate(self.labels[bias], self.rows[name])
        at = result.ndim - 1 if shape.kind == "linear" else result.ndim - 1 - map_dimensions(node)
        return spread_along(self.rows[name], at, result)

    def _tie_groups(self, shape: LayerShape) -> None:
        """Tie what stays together in a convolution of groups, which remain as large as one another."""
        rows, columns, groups = self.rows[shape.name], self.columns[shape.name], shape.groups
        if groups == 1:
            return
        if groups == shape.in_channels:
            # Each channel is a group, and goes with all of its outputs.
            self._equate(rows.view(groups, -1), columns.view(groups, 1))
            return
        for labels in (rows, columns):
            of_group = labels.view(groups, -1)
            self._equate(of_group, of_group[:1])

    def _of_norm(self, node: fx.Node, result: Tensor) -> Tensor:
        given, *parts = arguments(node)[:5]
        labels = self.labels[given]
        for part in parts:
            if isinstance(part, fx.Node):
                self._equate(labels, spread_along(self.labels[part], 1, labels))
        return labels

    def _of_maps(self, node: fx.Node, result: Tensor) -> Tensor | None:
        labels = self.labels[arguments(node)[0]]
        maps = 1 if "1d" in str(node.target) else 2
        of_map = first_along(labels, list(range(labels.ndim - maps, labels.ndim)))
        self._equate(labels, of_map)
        return of_map.expand(result.shape)

    def _of_reduction(self, node: fx.Node, result: Tensor) -> Tensor | None:
        given, dimensions = arguments(node)[:2]
        labels = self.labels[given]
        listed = [dimensions] if isinstance(dimensions, int) else list(dimensions or range(labels.ndim))
        one = labels
        for dimension in listed:
            one = one.narrow(dimension, 0, 1)
        if not torch.equal(one.expand_as(labels), labels):
            return None
        if one.expand_as(labels).shape == result.shape:
            return labels
        return one.reshape(result.shape)

    def _of_attention(self, node: fx.Node, result: Tensor) -> Tensor | None:
        """Tie each head together: queries, keys and values of all positions."""
        query, key, value = (self.labels[one] for one in arguments(node)[:3])
        heads = {one.shape[:-2] for one in (query, key, value)}
        if (len(arguments(node)) > 3 and arguments(node)[3] is not None) or len(heads) > 1:
            return None
        head = query[..., :1, :1]
        for one in (query, key, value):
            self._equate(one, head)
        return head.expand(result.shape)

    def _of_pointwise(self, node: fx.Node, result: Tensor) -> Tensor:
        operands = [self.labels[one] for one in node.all_input_nodes if one in self.labels]
        found = torch.zeros((), dtype=torch.int64).expand(result.shape)
        for labels in operands:
            if labels.ndim and labels.shape == result.shape:
                found = labels
        for labels in operands:
            if labels is not found:
                self._spread(labels, found)
        return found

    def _spread(self, labels: Tensor, over: Tensor) -> None:
        """Equate the labels of an operand with those of a result, where each value meets one label; keep the others."""
        padded = labels.view(*[1] * (over.ndim - labels.ndim), *labels.shape)
        first = over
        for dimension, (own, whole) in enumerate(zip(padded.shape, over.shape, strict=True)):
            if own < whole:
                first = first.narrow(dimension, 0, 1)
        if torch.equal(first.expand_as(over), over):
            self._equate(padded, first)
        else:
            self._keep(labels)

    def _new(self, count: int) -> Tensor:
        self.count += count
        return torch.arange(self.count - count, self.count)

    def _keep(self, *labels: Tensor | tuple[Tensor, ...] | list[Tensor] | None) -> None:
        for one in labels:
            if isinstance(one, (tuple, list)):
                self._keep(*one)
            elif one is not None:
                self._equate(one, torch.tensor(KEPT))

    def _equate(self, first: Tensor, second: Tensor) -> None:
        """Note that labels are equal, value by value, where the tensors have one shape or are expanded to one."""
        first, second = torch.broadcast_tensors(first, second)
        if not first.numel():
            return
        # Dimensions along which nothing differs are as good as one value.
        for dimension in range(first.ndim):
            if first.stride(dimension) == 0 and second.stride(dimension) == 0:
                first, second = first.narrow(dimension, 0, 1), second.narrow(dimension, 0, 1)
        pairs = torch.stack([first.reshape(-1), second.reshape(-1)])
        pairs = pairs[:, pairs[0] != pairs[1]]
        if pairs.numel():
            self._equal.append(torch.unique(pairs, dim=1))

    def _settle(self) -> None:
        """Let one label stand for all that are equal, until every tensor varies along one dimension alone.

        Of a tensor that varies along several, such as the heads of queries, keys and values, whole slices of the last
        of them are left: what remains of any tensor is a tensor, too.
        """
        while self._equal:
            self._represent()
            for labels in (*all_tensors(self.labels.values()), *self.parameters.values()):
                several = varying(labels)
                if len(several) > 1:
                    self._equate(labels, first_along(labels, several[:-1]))
            if not self._equal:
                self._keep(*(labels for node, labels in self.labels.items() if not self._can_change(node)))

    def _can_change(self, node: fx.Node) -> bool:
        """Say whether the sizes in the arguments of a node can follow its labels."""
        labels = self.labels[node]
        if node.target in (aten.reshape.default, aten.expand.default) and varying(labels):
            return isinstance(arguments(node)[1][varying(labels)[0]], int)
        if node.target is aten.unflatten.int:
            return not varying(labels)
        if node.target in (aten.select.int, aten.unbind.int):
            given, dimension = self.labels[arguments(node)[0]], (*arguments(node), 0)[1]
            return dimension % given.ndim not in varying(given)
        if node.target is aten.slice.Tensor:
            return all(isinstance(one, int) or one is None for one in arguments(node)[1:4]) or not varying(labels)
        return True

    def _represent(self) -> None:
        """Replace each label by the smallest of those that are equal to it."""
        table = smallest_equal(torch.cat(self._equal, dim=1), self.count)
        self._equal = []
        self.labels = {node: look_up(labels, table) for node, labels in self.labels.items()}
        for known in (self.parameters, self.rows, self.columns):
            known.update({name: look_up(labels, table) for name, labels in known.items()})
