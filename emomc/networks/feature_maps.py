"""The feature maps of a network: in which order they are made and read, and how long each is needed."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Sequence

import torch
from torch import fx

from emomc.networks.graph_layers import GraphLayer, TensorSizes
from emomc.networks.layers import LayerShape

aten = torch.ops.aten

_PARTS = {
    aten.select.int,
    aten.slice.Tensor,
    aten.narrow.default,
    aten.expand.default,
    aten.unbind.int,
    aten.chunk.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    operator.getitem,
}
"""Operations that return a part of a map, which is not copied."""


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The values that an operation makes for one image."""

    values: int
    made: int
    """Number of the step that makes it; -1: the image."""
    last: int
    """Number of the last step that reads it; the number of steps: the answer."""

    outlasts: bool = False
    """Whether it is (a part of) the answer."""

    @property
    def crosses(self) -> bool:
        """Whether it comes from outside or goes there: the image and the answer."""
        return self.made < 0 or self.outlasts


@dataclasses.dataclass(frozen=True)
class MapStep:
    """One reading of maps that makes another: the calls of a layer, or a move such as a pooling or an addition."""

    layer: int
    """Index of the layer; of a move, the layer before it, to which it is charged."""
    calls: tuple[int, ...]
    """Which calls of the layer; none for a move."""
    reads: tuple[int, ...]
    """Indices of the maps that it reads."""
    makes: int
    """Index of the map that it makes."""
    weights: int | None = None
    """Index of the map that a product of two activations has in place of weights."""

    @property
    def uses(self) -> tuple[int, ...]:
        """All maps that it reads or makes, each once."""
        return tuple(dict.fromkeys((*self.reads, *(() if self.weights is None else (self.weights,)), self.makes)))


@dataclasses.dataclass(frozen=True)
class MapSchedule:
    """All maps of a network, and the steps in the order of the forward pass."""

    maps: tuple[FeatureMap, ...]
    steps: tuple[MapStep, ...]


def schedule_maps(module: fx.GraphModule, layers: Sequence[GraphLayer], sizes: TensorSizes) -> MapSchedule:
    """Follow the maps of one image through a graph.

    Operations on each value alone, norms and changes of shape work in place: they make no map. An operation with
    several maps, or with another number of values than it reads, is a move.

    Args:
        module: the graph.
        layers: its layers.
        sizes: of its tensors.
    """
    builder = _Builder(sizes)
    called: dict[fx.Node, list[tuple[int, tuple[int, ...]]]] = {}
    for index, layer in enumerate(layers):
        share = len(layer.shape.calls) // len(layer.nodes)
        for position, node in enumerate(layer.nodes):
            calls = tuple(range(position * share, (position + 1) * share))
            called.setdefault(node, []).append((index, calls))
    for node in module.graph.nodes:
        if node.op == "placeholder":
            builder.holds[node] = builder.add(sizes.values_of_one(node), -1)
        elif node.op == "output":
            builder.answer(node)
        elif node in called:
            builder.call(node, [(index, calls, layers[index].shape) for index, calls in called[node]])
        else:
            builder.operation(node)
    return builder.schedule


class _Builder:
    """Maps and steps so far."""

    def __init__(self, sizes: TensorSizes) -> None:
        self.sizes = sizes
        self.holds: dict[fx.Node, int] = {}
        """Node -> the map that its result is, or is a part of."""
        self.values: list[int] = []
        self.made: list[int] = []
        self.last: list[int] = []
        self.outlasts: set[int] = set()
        self.steps: list[MapStep] = []

    @property
    def schedule(self) -> MapSchedule:
        found = zip(self.values, self.made, self.last, strict=True)
        maps = [FeatureMap(*numbers, outlasts=index in self.outlasts) for index, numbers in enumerate(found)]
        return MapSchedule(tuple(maps), tuple(self.steps))

    def add(self, values: int, made: int) -> int:
        self.values.append(max(1, values))
        self.made.append(made)
        self.last.append(made)
        return len(self.values) - 1

    def read_by(self, node: fx.Node) -> list[int]:
        """Return the maps that a node reads, each once."""
        return list(dict.fromkeys(self.holds[one] for one in node.all_input_nodes if one in self.holds))

    def step(
        self, layer: int, calls: tuple[int, ...], reads: list[int], values: int, weights: int | None = None
    ) -> int:
        """Append a step and return the map that it makes."""
        number = len(self.steps)
        for index in (*reads, *([] if weights is None else [weights])):
            self.last[index] = number
        made = self.add(values, number)
        self.steps.append(MapStep(layer, calls, tuple(reads), made, weights))
        return made

    def call(self, node: fx.Node, uses: list[tuple[int, tuple[int, ...], LayerShape]]) -> None:
        """Append the step of each layer of a node; of attention's two, the second reads what the first makes."""
        reads = self.read_by(node)
        if not reads:
            return
        made, *others = reads
        second = made
        for layer, calls, shape in uses:
            # A map that is multiplied with itself, or with another part of it, is read once.
            second = others.pop(0) if others else second
            weights = second if shape.kind == "product" else None
            values = sum(shape.out_channels * math.prod(shape.calls[call].output_size) for call in calls)
            made = self.step(layer, calls, [made], values, weights)
        self.holds[node] = made

    def operation(self, node: fx.Node) -> None:
        """Follow an operation without weights."""
        reads = self.read_by(node)
        if not reads or _is_number(node):
            return
        tensor = node in self.sizes
        same = tensor and self.sizes.values_of_one(node) == self.values_of(node)
        if len(reads) == 1 and (same or not tensor or node.target in _PARTS):
            self.holds[node] = reads[0]
        elif tensor:
            layer = self.steps[-1].layer if self.steps else 0
            self.holds[node] = self.step(layer, (), reads, self.sizes.values_of_one(node))

    def values_of(self, node: fx.Node) -> int:
        """Return how many values of its first map a node reads: a part of it may have passed a view."""
        source = next(one for one in node.all_input_nodes if one in self.holds)
        return self.sizes.values_of_one(source) if source in self.sizes else self.values[self.holds[source]]

    def answer(self, node: fx.Node) -> None:
        """Keep the answer until the end."""
        for index in self.read_by(node):
            self.last[index] = len(self.steps)
            self.outlasts.add(index)


def _is_number(node: fx.Node) -> bool:
    """Return whether a node is a size, or computed from sizes."""
    return node.target is aten.sym_size.int or (
        getattr(node.target, "__module__", "") == "_operator" and node.target is not operator.getitem
    )
