"""The patterns of zeros, by kind: which weights remain at a level of each.

To add one, write its function, add an entry to ``PATTERNS``, and its name to ``levels.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from emomc.compression.channels import ChannelPruning, Scores, remaining_channels
from emomc.compression.levels import BLOCK, CHANNEL, N_M, UNSTRUCTURED, kind_of, parse_block, parse_n_m
from emomc.compression.pruning import Percent, keep_largest, prune_by_magnitude
from emomc.networks.layers import LayerShape, as_stored, output_first


@dataclasses.dataclass(frozen=True)
class Structure:
    """A pattern, and what must be known of the network to prune by it."""

    pattern: str = UNSTRUCTURED
    """See ``Level``."""
    layers: tuple[LayerShape, ...] = ()
    """The layers that are pruned; unstructured zeros need none."""
    channels: ChannelPruning | None = None
    """What is known of channels, for the pattern ``channel``."""


@dataclasses.dataclass(frozen=True)
class Pruning:
    """What is to be pruned, and how far."""

    weights: Mapping[str, Tensor]
    """Layer name -> weights as they are stored."""
    masks: Mapping[str, Tensor]
    """Layer name -> boolean tensor, true where the weight remains so far; what was removed stays removed."""
    percent: Percent
    """Weights remaining, above 0 and up to 100."""
    structure: Structure = Structure()
    criterion: str = "layerwise"
    """See ``prune_by_magnitude``."""
    macs: Mapping[str, int] | None = None
    """Layer name -> MACs of one image; only the criterion ``macs`` needs them."""
    scores: Scores | None = None
    """Importance of each label of the channels, for the pattern ``channel``."""
    counts: Mapping[str, int] | None = None
    """Layer name -> how many of its weights remain, in place of ``percent`` and ``criterion``; None: not given."""


Masks = dict[str, Tensor]


def prune_unstructured(pruning: Pruning) -> Masks:
    """Keep the weights with the largest scores, wherever they are."""
    if pruning.counts is not None:
        return keep_largest(pruning.weights, pruning.counts, pruning.masks)
    return prune_by_magnitude(
        pruning.weights, pruning.percent, criterion=pruning.criterion, masks=pruning.masks, macs=pruning.macs
    )


def prune_n_m(pruning: Pruning) -> Masks:
    """Keep the N largest of each M weights that follow one another along the inputs of an output channel.

    As a GPU's sparse tensor cores want them; each position of a kernel has groups of its own. The last group of a layer
    may have fewer inputs, and then has at most N weights too: a layer with N inputs or fewer stays whole.

    Source: NVIDIA A100 Tensor Core GPU Architecture, 2020; Mishra et al., arXiv 2104.08378.
    """
    few, many = parse_n_m(pruning.structure.pattern) or (1, 1)
    kept = {}
    for layer in pruning.structure.layers:
        name = layer.name
        weight, alive = (output_first(part[name], layer) for part in (pruning.weights, pruning.masks))
        # Removed weights and what fills the last group come after every other.
        scores = torch.where(alive, weight.detach().abs().float(), -1.0).movedim(1, -1)
        groups = functional.pad(scores, (0, -scores.shape[-1] % many), value=-1.0).unflatten(-1, (-1, many))
        ranks = groups.sort(dim=-1, descending=True, stable=True).indices.sort(dim=-1).indices
        mask = (ranks < few).flatten(-2)[..., : scores.shape[-1]].movedim(-1, 1)
        kept[name] = as_stored(mask & alive, layer)
    return kept


def prune_blocks(pruning: Pruning) -> Masks:
    """Keep the blocks of R output channels x C inputs with the largest scores; their magnitude is the root mean square.

    Each position of a kernel has blocks of its own. The last blocks of a layer may be smaller. The criterion ranks
    blocks as it ranks weights.
    """
    rows, columns = parse_block(pruning.structure.pattern) or (1, 1)
    layers = pruning.structure.layers
    magnitudes, alive, counts = {}, {}, {}
    for layer in layers:
        name = layer.name
        weight, mask = (output_first(part[name], layer) for part in (pruning.weights, pruning.masks))
        squares = _block_sums((weight.detach().float() * mask).square(), rows, columns)
        sizes = _block_sums(torch.ones_like(weight, dtype=torch.float32), rows, columns)
        magnitudes[name] = (squares / sizes).sqrt()
        alive[name] = _block_sums(mask.float(), rows, columns) > 0
        if pruning.counts is not None:
            counts[name] = max(1, math.ceil(pruning.counts[name] * sizes.numel() / weight.numel()))
    if pruning.counts is not None:
        blocks = keep_largest(magnitudes, counts, alive)
    else:
        blocks = prune_by_magnitude(
            magnitudes, pruning.percent, criterion=pruning.criterion, masks=alive, macs=pruning.macs
        )
    kept = {}
    for layer in layers:
        spread = blocks[layer.name].repeat_interleave(rows, 0).repeat_interleave(columns, 1)
        whole = spread[: layer.out_channels, : layer.in_channels // layer.groups]
        kept[layer.name] = as_stored(whole.contiguous(), layer) & pruning.masks[layer.name]
    return kept


def prune_channels(pruning: Pruning) -> Masks:
    """Keep the most important channels: rows of the layers that make them, columns of those that take them."""
    channels, scores, layers = pruning.structure.channels, pruning.scores, pruning.structure.layers
    if channels is None or scores is None:
        raise ValueError("expected channels and scores= for the pattern 'channel', found none")
    before = channels.groups.removed(pruning.masks)
    masks = channels.groups.masks(remaining_channels(channels, layers, scores, pruning.percent, before))
    return {layer.name: masks[layer.name].to(pruning.masks[layer.name].device) for layer in layers}


def _block_sums(values: Tensor, rows: int, columns: int) -> Tensor:
    """Return the sum over each block of the first two dimensions, shape (ceil(O / rows), ceil(I / columns), ...)."""
    outputs, inputs = values.shape[:2]
    padded = values.new_zeros(outputs + -outputs % rows, inputs + -inputs % columns, *values.shape[2:])
    padded[:outputs, :inputs] = values
    return padded.unflatten(1, (-1, columns)).sum(2).unflatten(0, (-1, rows)).sum(1)


PATTERNS: Mapping[str, Callable[[Pruning], Masks]] = {
    UNSTRUCTURED: prune_unstructured,
    N_M: prune_n_m,
    BLOCK: prune_blocks,
    CHANNEL: prune_channels,
}
"""Kind of a pattern -> function from what is to be pruned to the masks, of the shape of the weights."""


def prune(pruning: Pruning) -> Masks:
    """Return layer name -> boolean tensor of the layer's shape, true where the weight remains."""
    return PATTERNS[kind_of(pruning.structure.pattern)](pruning)
