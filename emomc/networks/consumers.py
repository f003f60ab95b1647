"""Which layers take the outputs of a layer."""

from __future__ import annotations

import torch
from torch import fx

from emomc.networks.graph import NetworkGraph

# Whole numbers, such as the number of images, are made of a tensor but not of its values.
_SIZES = (torch.ops.aten.sym_size.int, torch.ops.aten.sym_numel.default)


def find_consumers(graph: NetworkGraph) -> dict[str, frozenset[str]]:
    """Return layer name -> names of the layers that take its outputs, of all its calls.

    Outputs reach a layer through any operations that are no layers: activation functions, pooling, additions. The last
    layers have no consumers.

    Args:
        graph: of the network.
    """
    layers_of: dict[fx.Node, frozenset[str]] = {}
    for layer in graph.graph_layers:
        for node in layer.nodes:
            layers_of[node] = layers_of.get(node, frozenset()) | {layer.shape.name}
    found: dict[str, frozenset[str]] = {layer.shape.name: frozenset() for layer in graph.graph_layers}
    takers: dict[fx.Node, frozenset[str]] = {}
    for node in reversed(graph.module.graph.nodes):
        followed = [user for user in node.users if user.target not in _SIZES]
        takers[node] = frozenset().union(*(layers_of.get(user) or takers[user] for user in followed))
        for name in layers_of.get(node, ()):
            found[name] |= takers[node]
    return found
