"""Magnitude pruning as pure functions: which weights remain at a level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

Criterion = Literal["layerwise", "global", "lamp", "macs"]
Percent = float | Fraction

# Of the share that a level leaves on average, the part that every layer keeps whatever its scores say: a layer
# without weights cuts the network in two (arXiv 2209.14624).
_LAYER_MINIMUM = Fraction(1, 5)


def remaining_count(weights: int, percent: Percent) -> int:
    """Return how many of ``weights`` remain at ``percent``, rounded half up in exact arithmetic.

    Args:
        weights: number of weights, 0 or more.
        percent: weights remaining, 0..100.
    """
    return math.floor(weights * Fraction(percent) / 100 + Fraction(1, 2))


def prune_by_magnitude(
    weights: Mapping[str, Tensor],
    percent: Percent,
    *,
    criterion: Criterion = "layerwise",
    masks: Mapping[str, Tensor] | None = None,
    macs: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Choose the weights that remain, largest scores first.

    Weights that ``masks`` has already removed stay removed, so masks made along a descending chain are nested. Among
    equal scores the weight that stands first stays.

    Args:
        weights: layer name -> weights of any shape, at least one each.
        percent: weights remaining, above 0 and up to 100.
        criterion: ``layerwise`` keeps the same fraction in every layer, one weight at least, by magnitude. The others
            keep that fraction of all weights together, ranked by ``global``: magnitude; ``lamp``: w^2 over the sum of
            the squares of the layer's weights that are not smaller (Source: LAMP, arXiv 2010.07611); ``macs``:
            magnitude over sqrt(MACs per weight), so that removing the lowest costs the least squared error per saved
            MAC. They leave each layer at least a fifth of ``percent`` of its weights, and one.
        masks: layer name -> boolean tensor of the weights that remain so far; all of them if None.
        macs: layer name -> MACs of one image; only ``macs`` needs it.

    Returns:
        Layer name -> boolean tensor of the layer's shape, true where the weight remains.

    Raises:
        ValueError: ``percent`` or ``criterion`` is out of range, or ``macs`` is missing.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"expected a percentage of remaining weights above 0 and up to 100, found {percent}")
    magnitudes = {name: weight.detach().abs().flatten().float() for name, weight in weights.items()}
    alive = {
        name: torch.ones_like(magnitude, dtype=torch.bool) if masks is None else masks[name].flatten()
        for name, magnitude in magnitudes.items()
    }
    if criterion == "layerwise":
        kept = {
            name: _largest(magnitude, alive[name], max(1, remaining_count(magnitude.numel(), percent)))
            for name, magnitude in magnitudes.items()
        }
    else:
        kept = _prune_together(magnitudes, alive, percent, _score_of(criterion, macs))
    return {name: mask.view_as(weights[name]) for name, mask in kept.items()}


def _largest(scores: Tensor, alive: Tensor, count: int) -> Tensor:
    """Return the mask of the ``count`` largest scores among those alive (fewer if fewer are alive)."""
    ranked = torch.where(alive, scores, -torch.inf).sort(descending=True, stable=True).indices
    mask = torch.zeros_like(alive)
    mask[ranked[:count]] = True
    return mask & alive


def _prune_together(
    magnitudes: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    percent: Percent,
    score: Callable[[str, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Keep the largest scores of all layers together, and each layer's minimum before them."""
    minimum = {
        name: _largest(values, alive[name], max(1, remaining_count(values.numel(), Fraction(percent) * _LAYER_MINIMUM)))
        for name, values in magnitudes.items()
    }
    scores = torch.cat(
        [score(name, values).masked_fill(minimum[name], torch.inf) for name, values in magnitudes.items()]
    )
    sizes = [values.numel() for values in magnitudes.values()]
    kept = _largest(scores, torch.cat(list(alive.values())), remaining_count(sum(sizes), percent))
    return {name: mask | minimum[name] for name, mask in zip(magnitudes, kept.split(sizes), strict=True)}


def _score_of(criterion: Criterion, macs: Mapping[str, int] | None) -> Callable[[str, Tensor], Tensor]:
    if criterion == "global":
        return lambda name, magnitude: magnitude
    if criterion == "lamp":
        return lambda name, magnitude: _lamp(magnitude)
    if criterion == "macs":
        if macs is None:
            raise ValueError("expected the MACs of each layer for the criterion 'macs', found none")
        return lambda name, magnitude: magnitude / math.sqrt(macs[name] / magnitude.numel())
    raise ValueError(f"expected a criterion of {', '.join(get_args(Criterion))}, found {criterion!r}")


def _lamp(magnitude: Tensor) -> Tensor:
    squares, order = magnitude.double().square().sort(descending=True, stable=True)
    # The tail of zeros scores zero: the sum before it is positive unless all weights are zero.
    ranked = squares / squares.cumsum(0).clamp_min(torch.finfo(squares.dtype).tiny)
    return torch.empty_like(ranked).scatter_(0, order, ranked).to(magnitude.dtype)
