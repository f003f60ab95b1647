"""Folding BatchNorm into the layer before it, so that what is evaluated is what is exported."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emomc.networks.tracing import NetworkTrace


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
        """Return a layer's weights in float32, not quantized, with its BatchNorm folded in."""
        weight, factor = self.weights[layer], self.factors.get(layer)
        return weight if factor is None else weight * factor.view(-1, *[1] * (weight.ndim - 1))


def fold_structure(network: nn.Module, trace: NetworkTrace) -> nn.Module:
    """Return a copy of the network, in eval mode, without its foldable BatchNorms.

    Each folded BatchNorm becomes ``nn.Identity`` and its layer gets a bias. The values are not those of a trained
    network yet: load ``FoldedState``.
    """
    folded = copy.deepcopy(network).eval()
    for layer_name, norm_name in trace.foldable.items():
        layer = folded.get_submodule(layer_name)
        parent_name, _, child_name = norm_name.rpartition(".")
        setattr(folded.get_submodule(parent_name), child_name, nn.Identity())
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[0]))
    return folded


def fold_state(state: Mapping[str, Tensor], network: nn.Module, trace: NetworkTrace) -> FoldedState:
    """Split a trained state dict into weights, BatchNorm factors and what else the folded network holds.

    Args:
        state: the state dict of the network as it was trained.
        network: the network itself, for the epsilon of each norm.
        trace: its trace.

    Returns:
        The folded state; y = gamma (conv(x) + b - mean) / sigma + beta becomes factor conv(x) + bias with
        factor = gamma / sqrt(variance + epsilon) and bias = (b - mean) factor + beta.
    """
    compressible = {layer.name for layer in trace.layers}
    weights = {name: state[f"{name}.weight"] for name in compressible}
    norms = set(trace.foldable.values())
    rest = {
        key: value
        for key, value in state.items()
        if key.rpartition(".")[0] not in norms and key not in {f"{name}.weight" for name in compressible}
    }
    factors = {}
    for layer, norm in trace.foldable.items():
        mean, variance = state[f"{norm}.running_mean"].double(), state[f"{norm}.running_var"].double()
        gamma = state.get(f"{norm}.weight", torch.ones_like(mean)).double()
        beta = state.get(f"{norm}.bias", torch.zeros_like(mean)).double()
        epsilon = float(network.get_submodule(norm).eps)  # type: ignore[arg-type]
        factor = gamma / (variance + epsilon).sqrt()
        bias = state.get(f"{layer}.bias", torch.zeros_like(mean)).double()
        factors[layer] = factor.float()
        rest[f"{layer}.bias"] = ((bias - mean) * factor + beta).float()
    return FoldedState(weights, factors, rest)
