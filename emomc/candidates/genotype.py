"""The genotype of a candidate: one pruning level and the bits of each layer."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.widths import MAX_BITS, MIN_BITS


@dataclasses.dataclass(frozen=True)
class Genotype:
    """One candidate: a level of the library and the bits of each of its layers."""

    level: int
    """Weights remaining, percent."""
    bits: tuple[int, ...]
    """Bits of each layer's weights, in the order of the layer table."""
    finetuned: str = ""
    """Name of the fine-tuned weights that replace those of the level; empty: none."""


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The genotypes that a search may choose, and their integer genes.

    Gene 0 is the index of the level in ``levels``; gene i is the bits of layer i, counted from 1.

    Raises:
        UserError: there is no level or no layer, levels do not ascend, or bits are out of range.
    """

    levels: tuple[int, ...]
    """Percent of weights remaining, ascending."""
    layers: tuple[str, ...]
    """Names of the layers whose bits are searched."""
    min_bits: int = MIN_BITS
    max_bits: int = MAX_BITS

    def __post_init__(self) -> None:
        if not self.levels or not self.layers:
            raise UserError(f"expected levels and layers to search, found {len(self.levels)} and {len(self.layers)}")
        if list(self.levels) != sorted(set(self.levels)):
            raise UserError(f"expected levels in ascending order, each once, found {list(self.levels)}")
        if not MIN_BITS <= self.min_bits <= self.max_bits <= MAX_BITS:
            raise UserError(
                f"expected {MIN_BITS} <= min_bits <= max_bits <= {MAX_BITS}, found {self.min_bits} and {self.max_bits}"
            )

    @property
    def lower(self) -> NDArray[np.int64]:
        """Smallest value of each gene, shape (1 + layers,)."""
        return np.array([0] + [self.min_bits] * len(self.layers))

    @property
    def upper(self) -> NDArray[np.int64]:
        """Largest value of each gene, shape (1 + layers,)."""
        return np.array([len(self.levels) - 1] + [self.max_bits] * len(self.layers))

    @property
    def size(self) -> int:
        """Number of genotypes."""
        return len(self.levels) * (self.max_bits - self.min_bits + 1) ** len(self.layers)

    def decode(self, genes: NDArray[np.generic]) -> Genotype:
        """Return the genotype of one row of genes, shape (1 + layers,); real genes are rounded here only."""
        whole = [int(gene) for gene in np.rint(genes)]
        return Genotype(self.levels[whole[0]], tuple(whole[1:]))

    def encode(self, genotype: Genotype) -> NDArray[np.int64]:
        """Return the genes of a genotype, shape (1 + layers,)."""
        return np.array([self.levels.index(genotype.level), *genotype.bits])
