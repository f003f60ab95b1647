"""Folding BatchNorm into the layer before it, so that what is evaluated is what is exported."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx, nn

from emomc.networks.graph import NetworkGraph
from emomc.networks.graph_layers import GraphLayer
from emomc.networks.layers import LayerShape, as_stored, output_first


@dataclasses.dataclass(frozen=True)
class FoldedState:
    """The state of a network whose foldable BatchNorms are gone."""

    weights: dict[str, Tensor]
    """Layer name -> trained weights, before any scale of a BatchNorm; output channels first."""
    factors: dict[str, Tensor]
    """Layer name -> gamma / sigma of the folded BatchNorm, float32 (output channels,); only folded layers."""
    rest: dict[str, Tensor]
    """Every other entry of the folded network's state dict: biases, norms that stay, buffers."""

    def scale(self, layer: str, scale: Tensor) -> Tensor:
        """Return the scale of a layer's codes with its BatchNorm folded in.

        Args:
            layer: layer name.
            scale: float32, (1,) or (output channels,): the step of the quantized trained weights.

        Returns:
            float32, as ``scale`` for a layer without a folded BatchNorm, else (output channels,); negative where gamma
            is.
        """
        factor = self.factors.get(layer)
        return scale if factor is None else scale * factor.to(scale.device)

    def full_precision(self, layer: str) -> Tensor:
        """Return a layer's weights in float32, not quantized, with its BatchNorm folded in; output channels first."""
        weight, factor = self.weights[layer], self.factors.get(layer)
        return weight if factor is None else weight * factor.view(-1, *[1] * (weight.ndim - 1))

    def to(self, device: torch.device) -> FoldedState:
        """Return the same state on a device."""
        parts = (self.weights, self.factors, self.rest)
        return FoldedState(*({name: tensor.to(device) for name, tensor in part.items()} for part in parts))

    @property
    def nbytes(self) -> int:
        """Memory size, bytes."""
        return sum(tensor.nbytes for part in (self.weights, self.factors, self.rest) for tensor in part.values())


class FoldedNetwork:
    """A network without its foldable BatchNorms, as a graph that runs.

    Its tensors are copies of the network's; they are those of a trained network once a ``FoldedState`` is loaded.
    """

    def __init__(self, graph: NetworkGraph, biases: Iterable[str] = ()) -> None:
        """Fold the norms and give each folded layer a bias.

        Args:
            graph: of the network; it is not changed.
            biases: further layers that need a bias of their own, if they can have one: see ``can_have_bias``.
        """
        self.graph = graph
        self.module: fx.GraphModule = copy.deepcopy(graph.module)
        self.layers = tuple(layer for layer in graph.layers if layer.stored)
        self.bias_keys: dict[str, str] = {}
        """Layer name -> name of the bias that all calls of the layer add, for layers that have one of their own."""
        nodes = dict(zip(graph.module.graph.nodes, self.module.graph.nodes, strict=True))
        wanted = {*biases, *graph.foldable}
        self.calls = {layer.shape.name: tuple(nodes[node] for node in layer.nodes) for layer in graph.graph_layers}
        """Layer name -> the nodes that call it; the input of each is its first argument."""
        for layer in graph.graph_layers:
            if layer.shape.stored and (layer.bias or (layer.shape.name in wanted and can_have_bias(layer))):
                self.bias_keys[layer.shape.name] = layer.bias or self._add_bias(layer)
        for norm in graph.norms:
            node = nodes[norm.node]
            node.replace_all_uses_with(node.args[0])
            self.module.graph.erase_node(node)
        self.module.graph.eliminate_dead_code()
        self.module.delete_all_unused_submodules()
        _drop_unused_tensors(self.module)
        self.module.recompile()
        # The graph has no training mode: it is what eval mode computes.
        self.module.eval()

    def fold(self, state: Mapping[str, Tensor]) -> FoldedState:
        """Split a trained state dict into weights, BatchNorm factors and what else the folded network holds.

        Args:
            state: of the network as it was trained; entries under a tensor's first name are enough.

        Returns:
            The folded state; y = gamma (conv(x) + b - mean) / sigma + beta becomes factor conv(x) + bias with
            factor = gamma / sqrt(variance + epsilon) and bias = (b - mean) factor + beta.
        """
        weights = {layer.name: output_first(state[layer.weight_key], layer) for layer in self.layers}
        keys = {layer.weight_key for layer in self.layers}
        rest = {
            # A copy: what is loaded into the network later must not change the state.
            name: state[name].detach() if name in state else tensor.detach().cpu().clone()
            for name, tensor in self.module.state_dict().items()
            if name not in keys | self.graph.constants
        }
        factors = {}
        for norm in self.graph.norms:
            mean, variance = state[norm.mean].double(), state[norm.variance].double()
            gamma = torch.ones_like(mean) if norm.gamma is None else state[norm.gamma].double()
            beta = torch.zeros_like(mean) if norm.beta is None else state[norm.beta].double()
            factor = gamma / (variance + norm.epsilon).sqrt()
            key = self.bias_keys[norm.layer]
            bias = state.get(key, torch.zeros_like(mean)).double()
            factors[norm.layer] = factor.float()
            rest[key] = ((bias - mean) * factor + beta).float()
        return FoldedState(weights, factors, rest)

    def load(self, state: FoldedState) -> None:
        """Copy a folded state into the network, its weights not quantized."""
        self.set_rest(state.rest)
        for layer in self.layers:
            self.set_weight(layer, state.full_precision(layer.name))

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format that the network and its images have when it runs."""
        return torch.channels_last if self.graph.channels_last else torch.contiguous_format

    def to(self, device: torch.device) -> FoldedNetwork:
        """Move the network to a device, in its memory format and without gradients; return it."""
        self.module.to(device, memory_format=self.memory_format).requires_grad_(False)  # type: ignore[call-overload]
        for node in self.module.graph.nodes:
            # Where the code makes tensors, the graph has the device that it was made on.
            if node.kwargs.get("device") is not None:
                node.kwargs = {**node.kwargs, "device": device}
        self.module.recompile()
        return self

    def set_rest(self, rest: Mapping[str, Tensor]) -> None:
        """Copy what is no layer's weights to where the network has it: much faster than ``load_state_dict``."""
        for name, tensor in itertools.chain(self.module.named_parameters(), self.module.named_buffers()):
            if name in rest:
                tensor.data.copy_(rest[name])

    def set_weight(self, layer: LayerShape, weight: Tensor) -> None:
        """Copy a layer's weights, output channels first, to where the network has them."""
        self.module.get_parameter(layer.weight_key).data.copy_(as_stored(weight, layer))

    def _add_bias(self, layer: GraphLayer) -> str:
        """Give a layer a bias of zeros, which all its calls add; return its name."""
        key = layer.shape.weight_key
        name = f"{key.removesuffix('weight')}bias" if key.endswith("weight") else f"{key}_bias"
        taken = self.graph.module.state_dict().keys()
        while name in taken:
            name += "_"
        weight = self.module.get_parameter(key)
        bias = nn.Parameter(weight.new_zeros(layer.shape.out_channels))
        folder, _, last = name.rpartition(".")
        self.module.get_submodule(folder).register_parameter(last, bias)
        for node in self.calls[layer.shape.name]:
            with self.module.graph.inserting_before(node):
                attribute = self.module.graph.get_attr(name)
            positional = list(node.args) + [None] * (3 - len(node.args))
            positional[2] = attribute
            node.args = tuple(positional)
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "bias"}
        return name


def can_have_bias(layer: GraphLayer) -> bool:
    """Say whether all calls of a layer can add one bias of the layer's own: none of them adds another one."""
    operations = {node.target for node in layer.nodes}
    products = {torch.ops.aten.matmul.default, torch.ops.aten.mm.default}
    return layer.bias is not None or (not layer.has_bias and not operations & products)


def _drop_unused_tensors(module: fx.GraphModule) -> None:
    """Remove parameters and buffers that the graph no longer uses."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    # The graph has one name for each tensor.
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in used:
            folder, _, last = name.rpartition(".")
            delattr(module.get_submodule(folder), last)
