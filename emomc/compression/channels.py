"""Which channels go: their importance, and how many of them a level leaves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emomc.compression.channel_options import BATCHNORM, MAGNITUDE, TAYLOR
from emomc.networks.channels import ChannelGroups
from emomc.networks.graph_layers import arguments
from emomc.networks.layers import LayerShape, output_first

Scores = NDArray[np.float64]

_HALVINGS = 40


@dataclasses.dataclass(frozen=True)
class Values:
    """What importance is computed from."""

    parameters: Mapping[str, Tensor]
    """Name -> value."""
    gradients: Mapping[str, Tensor]
    """Name -> mean gradient of the loss; only ``taylor`` needs them."""


def magnitude_scores(groups: ChannelGroups, values: Values) -> Scores:
    """Return the sum of squares of each channel's weights, of all layers that make it.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", arXiv 1608.08710; together over the layers that go
    together: Fang et al., "DepGraph", arXiv 2301.12900.
    """
    return _by_rows(groups, lambda layer: values.parameters[layer.weight_key].square())


def batchnorm_scores(groups: ChannelGroups, values: Values) -> Scores:
    """Return the sum of squares of the scales of each channel's BatchNorms; ``magnitude`` for channels without one.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", arXiv 1708.06519.
    """
    scores, scaled = np.zeros(groups.labels), np.zeros(groups.labels, bool)
    for node in groups.nodes:
        gamma = arguments(node)[1] if node.target is torch.ops.aten.batch_norm.default else None
        name = None if gamma is None else str(gamma.target)
        if name in groups.parameters and name in values.parameters:
            labels = groups.parameters[name].numpy()
            np.add.at(scores, labels, values.parameters[name].double().square().cpu().numpy())
            scaled[labels] = True
    return np.where(scaled, scores, magnitude_scores(groups, values))


def taylor_scores(groups: ChannelGroups, values: Values) -> Scores:
    """Return how much the loss would change without each channel, to first order: the square of the sum of w dL/dw.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8.
    """
    products = {name: values.parameters[name] * gradient for name, gradient in values.gradients.items()}
    return _by_rows(groups, lambda layer: products[layer.weight_key]) ** 2


IMPORTANCES: Mapping[str, Callable[[ChannelGroups, Values], Scores]] = {
    MAGNITUDE: magnitude_scores,
    BATCHNORM: batchnorm_scores,
    TAYLOR: taylor_scores,
}
"""Name -> function to the importance of each label, (labels,)."""


def _by_rows(groups: ChannelGroups, of: Callable[[LayerShape], Tensor]) -> Scores:
    """Return the sum of values over the rows of each label."""
    scores = np.zeros(groups.labels)
    for name, labels in groups.rows.items():
        layer = groups.graph.layer(name)
        np.add.at(scores, labels, output_first(of(layer), layer).flatten(1).double().sum(1).cpu().numpy())
    return scores


@dataclasses.dataclass(frozen=True)
class ChannelPruning:
    """What must be known of a network to remove channels."""

    groups: ChannelGroups
    importance: str = MAGNITUDE
    """A name of ``IMPORTANCES``."""
    multiple: int = 1
    """Of which the channels are a multiple, where channels go."""
    batches: Sequence[tuple[Tensor, Tensor]] = ()
    """Images and labels to measure gradients on, for ``taylor``."""


def remaining_channels(
    pruning: ChannelPruning, layers: Iterable[LayerShape], scores: Scores, percent: Any, gone: Iterable[int]
) -> frozenset[int]:
    """Return the labels that go so that at most ``percent`` of the weights remain.

    In every space the same share of the channels stays, those with the largest scores, rounded to the multiple; at
    least one multiple stays, and where that is too much, more weights than ``percent`` remain.

    Args:
        pruning: the network.
        layers: whose weights are counted.
        scores: importance of each label, (labels,).
        percent: weights remaining, above 0 and up to 100.
        gone: labels that went before.
    """
    groups, counted, before = pruning.groups, tuple(layers), pruning.groups.kept(gone)
    ranked = [space[np.argsort(-scores[space], kind="stable")] for space in groups.spaces]
    ranked = [np.concatenate([space[before[space]], space[~before[space]]]) for space in ranked]
    sizes = _channels_of_labels(groups)

    def kept_at(share: float) -> NDArray[np.bool_]:
        kept = before.copy()
        for space in ranked:
            kept[space[_rounded(share * len(space), len(space), pruning.multiple, int(sizes[space[0]])) :]] = False
        return kept

    def fits(kept: NDArray[np.bool_]) -> bool:
        return 100 * sum(groups.smaller(layer, kept).weights for layer in counted) <= percent * allowed

    allowed = sum(layer.weights for layer in counted)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS if not fits(kept_at(high)) else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(kept_at(middle)) else (low, middle)
    kept = kept_at(low if not fits(kept_at(high)) else high)
    return frozenset(int(label) for space in groups.spaces for label in space if not kept[label])


def _rounded(wanted: float, labels: int, multiple: int, size: int) -> int:
    """Return how many labels of a space stay, each of ``size`` channels: all, or a multiple of channels."""
    step = multiple // math.gcd(multiple, size)
    return min(labels, max(step, step * round(wanted / step)))


def _channels_of_labels(groups: ChannelGroups) -> NDArray[np.int64]:
    """Return how many channels of a layer have each label, at least, (labels,): several in a convolution of groups."""
    counts = np.array([np.bincount(labels, minlength=groups.labels) for labels in groups.rows.values()])
    return np.where(counts, counts, counts.max()).min(axis=0)
