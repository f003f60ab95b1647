"""The graph of a network without some of its channels."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from emomc.networks.channels import ChannelGroups, Kept, kept_along
from emomc.networks.graph import NetworkGraph, describe_graph
from emomc.networks.graph_layers import CONVOLUTIONS, arguments
from emomc.networks.label_tensors import varying

aten = torch.ops.aten


def slice_network(groups: ChannelGroups, removed: Iterable[int], input_shape: tuple[int, ...]) -> NetworkGraph:
    """Return the graph of the smaller network; its layers and tensors have the names that they had.

    Args:
        groups: of the whole network.
        removed: labels of the channels that go.
        input_shape: (channels, height, width) of one image.
    """
    whole, gone = groups.graph, tuple(removed)
    kept = groups.kept(gone)
    module = copy.deepcopy(whole.module)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, tensor in groups.slice_state(tensors, gone).items():
        _replace(module, name, tensor.detach())
    shapes = {node: layer.shape for layer in whole.graph_layers for node in layer.nodes}
    for node, copied in zip(whole.module.graph.nodes, module.graph.nodes, strict=True):
        if node in shapes and node.target in CONVOLUTIONS:
            _set_groups(copied, groups.smaller(shapes[node], kept).groups)
        elif node in groups.nodes:
            _resize(copied, groups.nodes[node], _first_input(node, groups), kept)
    module.recompile()
    parameter = next(module.parameters())
    image = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    smaller = describe_graph(module, whole.constants, image, whole.notes)
    return dataclasses.replace(smaller, channels_last=whole.channels_last)


def _replace(module: nn.Module, name: str, tensor: Tensor) -> None:
    folder, _, last = name.rpartition(".")
    owner = module.get_submodule(folder)
    before = getattr(owner, last)
    setattr(owner, last, nn.Parameter(tensor, before.requires_grad) if isinstance(before, nn.Parameter) else tensor)


def _first_input(node: fx.Node, groups: ChannelGroups) -> Tensor | None:
    given = arguments(node)[0] if arguments(node) else None
    labels = groups.nodes.get(given) if isinstance(given, fx.Node) else None
    return labels if isinstance(labels, Tensor) else None


def _set_groups(node: fx.Node, groups: int) -> None:
    if "groups" in node.kwargs:
        node.kwargs = {**node.kwargs, "groups": groups}
    elif len(node.args) > 6:
        node.args = (*node.args[:6], groups)


def _resize(node: fx.Node, made: Any, given: Tensor | None, kept: Kept) -> None:
    """Change the sizes in the arguments of an operation to those of the smaller tensors.

    Args:
        node: of the smaller network's graph.
        made: labels of what it makes.
        given: labels of its first argument; None: it is no tensor.
        kept: whether each label stays.
    """
    if node.target in (aten.reshape.default, aten.expand.default):
        sizes = list(arguments(node)[1])
        for at in varying(made):
            if sizes[at] != -1:
                sizes[at] = int(kept_along(made, at, kept).sum())
        node.args = (node.args[0], sizes, *node.args[2:])
    elif given is None or node.target not in _RANGES:
        return
    else:
        dimension = int((*arguments(node)[1:], *[0] * 2)[_RANGES[node.target]]) % given.ndim
        if dimension in varying(given):
            _RESIZED[node.target](node, dimension, kept_along(given, dimension, kept))


def _resize_slice(node: fx.Node, dimension: int, kept: Kept) -> None:
    start, end = (*arguments(node)[2:4], None, None)[:2]
    chosen = range(len(kept))[start:end]
    before = int(kept[: chosen.start].sum())
    node.args = (node.args[0], dimension, before, before + int(kept[chosen.start : chosen.stop].sum()))


def _resize_parts(node: fx.Node, dimension: int, kept: Kept) -> None:
    """Give the parts of a split the sizes that they have now."""
    count, asked = len(kept), arguments(node)[1]
    if node.target is aten.chunk.default:
        asked = -(-count // int(asked))
    sizes = list(asked) if isinstance(asked, Sequence) else [min(asked, count - at) for at in range(0, count, asked)]
    ends = np.cumsum([0, *sizes])
    smaller = [int(kept[first:last].sum()) for first, last in pairwise(ends)]
    node.target = aten.split_with_sizes.default
    node.args = (node.args[0], smaller, dimension)


_RANGES = {
    aten.slice.Tensor: 0,
    aten.split.Tensor: 1,
    aten.split_with_sizes.default: 1,
    aten.chunk.default: 1,
}
"""Operation that takes parts along a dimension -> the place of the dimension among its further arguments."""
_RESIZED = dict.fromkeys(_RANGES, _resize_parts) | {aten.slice.Tensor: _resize_slice}
