"""The pruning criteria, by name.

To add one, write its ``score`` function and add an entry to ``CRITERIA``.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class PruningCriterion:
    """A score of weights; the weights with the largest scores remain."""

    name: str
    """Name on the command line."""
    score: Callable[[Tensor, int | None], Tensor]
    """Magnitudes of a layer's weights, shape (n,), and its MACs of one image -> scores, shape (n,)."""
    per_layer: bool = False
    """Keep the same fraction of weights in every layer, instead of a fraction of all weights together."""


def magnitude(magnitudes: Tensor, macs: int | None) -> Tensor:
    """Score a weight by its magnitude."""
    return magnitudes


def lamp(magnitudes: Tensor, macs: int | None) -> Tensor:
    """Score a weight by w^2 divided by the sum of w^2 over the layer's weights that are not smaller.

    Source: Lee et al., "Layer-adaptive sparsity for the Magnitude-based Pruning", arXiv 2010.07611.
    """
    squares, order = magnitudes.double().square().sort(descending=True, stable=True)
    # If all weights are zero, so are the sums; the clamp then makes the scores zero.
    ranked = squares / squares.cumsum(0).clamp_min(sys.float_info.min)
    return ranked.clone().scatter_(0, order, ranked).to(magnitudes.dtype)


def magnitude_per_mac(magnitudes: Tensor, macs: int | None) -> Tensor:
    """Score a weight by its magnitude over sqrt(MACs per weight).

    Removing the lowest scores then causes the least squared error per saved MAC.
    """
    if macs is None:
        raise ValueError("expected the MACs of each layer for the criterion 'macs', found none")
    return magnitudes / math.sqrt(macs / magnitudes.numel())


CRITERIA: Mapping[str, PruningCriterion] = {
    criterion.name: criterion
    for criterion in (
        PruningCriterion("layerwise", magnitude, per_layer=True),
        PruningCriterion("global", magnitude),
        PruningCriterion("lamp", lamp),
        PruningCriterion("macs", magnitude_per_mac),
    )
}
"""Name -> criterion that scores weights."""

SENSITIVITY = "sensitivity"
"""Name of the criterion that measures how much each layer's weights matter: ``counts_by_sensitivity``."""

if TYPE_CHECKING:
    CriterionName = str
else:
    CriterionName = Literal[tuple([*CRITERIA, SENSITIVITY])]  # noqa: C409 - Python 3.10 has no star in brackets

PruningCost = Literal["both", "macs", "weights"]
"""What ``sensitivity`` saves: MACs (for energy), weights (for size), or both in equal parts."""
