"""Reads what quantization of exported graphs (PT2E) leaves: integer weights and ``dequantize`` nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from problem import Compressed, Layer, Problem
from torch import nn
from torch.fx import GraphModule, Node


def read(problem: Problem, network: GraphModule, own: Mapping[str, torch.Tensor] | None = None) -> Compressed:
    """Return a converted graph as what it stores.

    Args:
        problem: what the tool was given.
        network: the graph.
        own: layer -> its weights before they were quantized; None: the trained ones.
    """
    layers: dict[str, Layer] = {}
    own, grids = own or problem.weights, 0
    for node in network.graph.nodes:
        if "dequantize_per" not in str(node.target):
            continue
        codes, scale, zero = node.args[:3]
        quantize = None if codes.op == "get_attr" else codes
        source = codes if quantize is None else codes.args[0]
        if source.op != "get_attr":
            grids += 1
            continue
        stored, scale, zero = (_value(network, part) for part in (source, scale, zero))
        if stored.ndim < 2:
            continue
        axes = [-1] + [1] * (stored.ndim - 1)
        scale, zero = (torch.as_tensor(part).reshape(-1) for part in (scale, zero))
        if quantize is not None:
            # The graph keeps float weights and rounds them each time.
            low, high = quantize.args[-3:-1]
            stored = (stored / scale.reshape(axes)).round().add(zero.reshape(axes)).clamp(low, high)
        weights = (stored.float() - zero.reshape(axes)) * scale.reshape(axes)
        groups = next(_groups(node), 1)
        zeros = len(zero) if bool(zero.any()) else 0
        layers[problem.name_of(weights, own)] = Layer(weights, 8, len(scale), zeros, groups=groups)
    for name, weights in own.items():
        if name not in layers:
            layers[name] = Layer(weights, 32, 0)
    return Compressed(network, layers, activation_bits=8, activation_grids=grids)


def _value(network: nn.Module, part: object) -> torch.Tensor:
    if isinstance(part, Node):
        value = network
        for name in str(part.target).split("."):
            value = getattr(value, name)
        return value
    return torch.as_tensor(part)


def _groups(node: Node) -> Iterator[int]:
    for user in node.users:
        if "conv2d" in str(user.target):
            yield user.args[6] if len(user.args) > 6 else 1
