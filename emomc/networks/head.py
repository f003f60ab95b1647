"""Fitting the last layer of a network to the number of classes."""

from __future__ import annotations

import warnings

from torch import nn

from emomc.common.errors import UserError
from emomc.networks.graph import NetworkGraph, NetworkWarning, trace_network


def fit_head(network: nn.Module, input_shape: tuple[int, ...], num_classes: int) -> None:
    """Replace the last linear layer of a network, in place, if it gives another number of scores.

    Args:
        network: any module.
        input_shape: of one input, such as (channels, height, width) of an image.
        num_classes: scores wanted.

    Raises:
        UserError: the scores do not come from a linear layer that can be replaced, or see ``trace_network``.
    """
    graph = trace_network(network, input_shape)
    if graph.output_shape == (num_classes,):
        return
    name = _last_linear(graph)
    layer = network.get_submodule(name) if name is not None else None
    if name is None or not isinstance(layer, nn.Linear):
        raise UserError(
            f"expected {type(network).__name__} to give {num_classes} class scores, found an output of shape "
            f"{graph.output_shape} that is not from a last linear layer: name the argument that sets the number of "
            f"classes in --network_args"
        )
    folder, _, last = name.rpartition(".")
    head = nn.Linear(layer.in_features, num_classes, bias=layer.bias is not None)
    setattr(network.get_submodule(folder), last, head)
    warnings.warn(
        f"the last layer {name} gave {layer.out_features} scores: a new one gives {num_classes}",
        NetworkWarning,
        stacklevel=2,
    )


def _last_linear(graph: NetworkGraph) -> str | None:
    """Return the name of the module whose linear layer makes the scores."""
    (answer,) = next(node for node in graph.module.graph.nodes if node.op == "output").args
    for layer in graph.graph_layers:
        if layer.nodes == (answer,) and layer.shape.kind == "linear" and layer.shape.stored:
            return layer.shape.weight_key.rpartition(".")[0]
    return None
