"""Whole channels: which of a network go together, and what is left of its tensors without some of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from emomc.networks.channel_labels import PARTS, ChannelLabels
from emomc.networks.graph import NetworkGraph
from emomc.networks.label_tensors import KEPT, varying
from emomc.networks.layers import LayerShape, as_stored, output_first

Labels = NDArray[np.int64]
Kept = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The channels of a network, each by a label; what has one label stays or goes together, what has none stays."""

    graph: NetworkGraph
    rows: dict[str, Labels]
    """Layer name -> label of each output channel, (output channels,)."""
    columns: dict[str, Labels]
    """Layer name -> label of each input channel, (input channels,)."""
    parameters: dict[str, Tensor]
    """Name of any other parameter or buffer -> labels, of its shape."""
    nodes: dict[fx.Node, Any]
    """Node of the graph -> labels, of the shape of its tensor for two images."""
    labels: int
    """Number of labels, with those that stand for nothing."""
    spaces: tuple[Labels, ...]
    """The labels that may go, those together that occur in the same places: at least one of each space stays."""

    def kept(self, removed: Iterable[int]) -> Kept:
        """Return whether each label stays, (labels,).

        Args:
            removed: labels of the channels that go.
        """
        kept = np.ones(self.labels, bool)
        kept[[*removed]] = False
        return kept

    def removed(self, masks: Mapping[str, Tensor]) -> frozenset[int]:
        """Return the labels of the channels of which nothing remains in a level.

        Args:
            masks: layer name -> boolean tensor of its weights as they are stored, true where a weight remains.
        """
        firsts = {name: output_first(mask, self.graph.layer(name)) for name, mask in masks.items()}
        return self.removed_by_rows({name: first.flatten(1).any(1).cpu().numpy() for name, first in firsts.items()})

    def removed_by_rows(self, rows: Mapping[str, Kept]) -> frozenset[int]:
        """Return the labels that no output channel has that stays.

        Args:
            rows: layer name -> whether each output channel stays, (output channels,); of some layers.
        """
        known = [self.rows[name] for name in rows if name in self.rows]
        alive = {label for name, kept in rows.items() if name in self.rows for label in self.rows[name][kept].tolist()}
        seen = {label for labels in known for label in labels.tolist()}
        return frozenset(int(label) for space in self.spaces for label in space if label in seen and label not in alive)

    def kept_rows(self, removed: Iterable[int]) -> dict[str, tuple[bool, ...]]:
        """Return rows for ``removed_by_rows``: of layers whose labels are not all those of layers before."""
        kept, seen, rows = self.kept(removed), {KEPT}, {}
        for name, labels in self.rows.items():
            if not kept[labels].all() and not seen.issuperset(labels.tolist()):
                rows[name] = tuple(kept[labels].tolist())
                seen.update(labels.tolist())
        return rows

    def rows_and_columns(self, layer: LayerShape, kept: Kept) -> tuple[Kept, Kept]:
        """Return which rows (outputs) and columns (inputs of a group) of a layer's weights stay.

        Args:
            layer: of the whole network.
            kept: see the method ``kept``.
        """
        inputs = layer.in_channels // layer.groups
        if layer.name not in self.rows:
            return np.ones(layer.out_channels, bool), np.ones(inputs, bool)
        rows, columns = kept[self.rows[layer.name]], kept[self.columns[layer.name]]
        # Groups are alike; where each channel is a group, its only column stays with its row.
        return rows, np.ones(1, bool) if _is_depthwise(layer) else columns[:inputs]

    def smaller(self, layer: LayerShape, kept: Kept) -> LayerShape:
        """Return the shape of a layer without the channels that go."""
        rows, columns = self.rows_and_columns(layer, kept)
        groups = layer.groups
        if _is_depthwise(layer) and layer.name in self.columns:
            groups = int(kept[self.columns[layer.name]].sum())
        inputs, outputs = int(columns.sum()) * groups, int(rows.sum())
        return dataclasses.replace(layer, in_channels=inputs, out_channels=outputs, groups=groups)

    def masks(self, removed: Iterable[int]) -> dict[str, Tensor]:
        """Return layer name -> boolean tensor of its weights as they are stored, false in what goes."""
        kept, masks = self.kept(removed), {}
        for layer in self.graph.layers:
            if layer.stored:
                rows, columns = map(torch.from_numpy, self.rows_and_columns(layer, kept))
                shape = output_first(self.graph.module.get_parameter(layer.weight_key), layer).shape
                mask = (rows[:, None] & columns).view(*shape[:2], *[1] * (len(shape) - 2)).expand(shape)
                masks[layer.name] = as_stored(mask.contiguous(), layer)
        return masks

    def slice_state(self, state: Mapping[str, Tensor], removed: Iterable[int]) -> dict[str, Tensor]:
        """Return the tensors of the smaller network.

        Args:
            state: name -> tensor of the whole network; tensors without channels are returned as they are.
            removed: labels of the channels that go.
        """
        kept, sliced = self.kept(removed), dict(state)
        for layer in self.graph.layers:
            if layer.stored and layer.weight_key in state:
                weight = output_first(state[layer.weight_key], layer)
                for dimension, part in enumerate(self.rows_and_columns(layer, kept)):
                    weight = _select(weight, dimension, part)
                sliced[layer.weight_key] = as_stored(weight, self.smaller(layer, kept)).contiguous()
        for name, labels in self.parameters.items():
            for dimension in varying(labels) if name in state else ():
                sliced[name] = _select(sliced[name], dimension, kept_along(labels, dimension, kept))
        return sliced


def kept_along(labels: Tensor, dimension: int, kept: Kept) -> Kept:
    """Return whether each slice of a labelled tensor stays, along the dimension in which the labels differ."""
    for other in range(labels.ndim):
        if other != dimension:
            labels = labels.narrow(other, 0, 1)
    return kept[labels.reshape(-1).numpy()]


def find_channels(graph: NetworkGraph, input_shape: tuple[int, ...], kept: Iterable[str] = ()) -> ChannelGroups:
    """Find the channels that can be removed from a network.

    What reaches an operation that is not known, or that combines channels (a norm over all of them, say), stays, and so
    do the class scores.

    Args:
        graph: of the network.
        input_shape: (channels, height, width) of one image.
        kept: names of layers that keep all their channels.
    """
    found = ChannelLabels(graph.module, graph.graph_layers, frozenset(kept))
    parameter = next((one for one in graph.module.parameters() if one.is_floating_point()), torch.empty(0))
    found.label(torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    rows, columns = ({name: one.numpy() for name, one in part.items()} for part in (found.rows, found.columns))
    return ChannelGroups(graph, rows, columns, found.parameters, found.labels, found.count, _spaces(found))


def _spaces(found: ChannelLabels) -> tuple[Labels, ...]:
    """Return the labels of output channels that may go, by where they occur."""
    places: dict[int, list[int]] = {}
    parts = [one for node, one in found.labels.items() if node.target in PARTS and isinstance(one, Tensor)]
    for place, one in enumerate([*found.rows.values(), *found.columns.values(), *parts]):
        for label in one.unique().tolist():
            places.setdefault(label, []).append(place)
    spaces: dict[tuple[int, ...], list[int]] = {}
    for label in sorted({label for rows in found.rows.values() for label in rows.tolist()} - {KEPT}):
        spaces.setdefault(tuple(places[label]), []).append(label)
    return tuple(np.array(space) for space in spaces.values())


def _is_depthwise(layer: LayerShape) -> bool:
    return layer.groups == layer.in_channels > 1


def _select(tensor: Tensor, dimension: int, kept: Kept) -> Tensor:
    return tensor.index_select(dimension, torch.from_numpy(np.flatnonzero(kept)).to(tensor.device))
