"""Magnitude pruning as pure functions: which weights remain at a level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from emomc.compression.criteria import CRITERIA

Percent = float | Fraction

LAYER_MINIMUM = Fraction(1, 5)
"""Every layer keeps at least this part of the level's percentage, whatever its scores: no signal passes through a layer
without weights (arXiv 2209.14624)."""


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
    criterion: str = "layerwise",
    masks: Mapping[str, Tensor] | None = None,
    macs: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Choose the weights that remain, those with the largest scores.

    Weights that ``masks`` has already removed stay removed, so the masks of descending levels are nested. Of equal
    scores the first remains.

    Args:
        weights: layer name -> weights of any shape, at least one each.
        percent: weights remaining, above 0 and up to 100.
        criterion: a name of ``CRITERIA``. Those that are not per layer keep ``percent`` of all weights together, but in
            each layer at least a fifth of ``percent``, and at least one weight.
        masks: layer name -> boolean tensor of the weights that remain so far; None: all of them.
        macs: layer name -> MACs of one image; needed only for the criterion ``macs``.

    Returns:
        Layer name -> boolean tensor of the layer's shape, true where the weight remains.

    Raises:
        ValueError: ``percent`` is out of range, ``criterion`` is unknown, or ``macs`` is missing.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"expected a percentage of remaining weights above 0 and up to 100, found {percent}")
    if criterion not in CRITERIA:
        raise ValueError(f"expected a criterion of {', '.join(CRITERIA)}, found {criterion!r}")
    magnitudes = {name: weight.detach().abs().flatten().float() for name, weight in weights.items()}
    alive = {
        name: torch.ones_like(magnitude, dtype=torch.bool) if masks is None else masks[name].flatten()
        for name, magnitude in magnitudes.items()
    }
    scores = {
        name: CRITERIA[criterion].score(values, None if macs is None else macs[name])
        for name, values in magnitudes.items()
    }
    if CRITERIA[criterion].per_layer:
        kept = {
            name: _largest(values, alive[name], max(1, remaining_count(values.numel(), percent)))
            for name, values in scores.items()
        }
    else:
        kept = _prune_together(magnitudes, scores, alive, percent)
    return {name: mask.view_as(weights[name]) for name, mask in kept.items()}


def keep_largest(
    weights: Mapping[str, Tensor], counts: Mapping[str, int], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Choose the largest weights of each layer.

    Args:
        weights: layer name -> weights of any shape.
        counts: layer name -> number of weights that remain; fewer if fewer remain so far.
        masks: layer name -> boolean tensor of the weights that remain so far.

    Returns:
        Layer name -> boolean tensor of the layer's shape, true where the weight remains. Of equal weights the first
        remains.
    """
    return {
        name: _largest(weight.detach().abs().flatten().float(), masks[name].flatten(), counts[name]).view_as(weight)
        for name, weight in weights.items()
    }


def _largest(scores: Tensor, alive: Tensor, count: int) -> Tensor:
    """Return the mask of the ``count`` largest scores among those alive (fewer if fewer are alive)."""
    ranked = torch.where(alive, scores, -torch.inf).sort(descending=True, stable=True).indices
    mask = torch.zeros_like(alive)
    mask[ranked[:count]] = True
    return mask & alive


def _prune_together(
    magnitudes: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    percent: Percent,
) -> dict[str, Tensor]:
    """Keep each layer's minimum first, then the largest scores of all layers together."""
    minimum = {
        name: _largest(values, alive[name], max(1, remaining_count(values.numel(), Fraction(percent) * LAYER_MINIMUM)))
        for name, values in magnitudes.items()
    }
    together = torch.cat([values.masked_fill(minimum[name], torch.inf) for name, values in scores.items()])
    sizes = [values.numel() for values in magnitudes.values()]
    kept = _largest(together, torch.cat(list(alive.values())), remaining_count(sum(sizes), percent))
    return {name: mask | minimum[name] for name, mask in zip(magnitudes, kept.split(sizes), strict=True)}
