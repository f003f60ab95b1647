"""The genotype of a candidate: one pruning level, and the bits of each layer's weights and inputs."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.levels import Level, LevelName
from emomc.compression.widths import MAX_BITS, MIN_BITS


@dataclasses.dataclass(frozen=True)
class Genotype:
    """One candidate: a level of the library and the bits of each of its layers."""

    level: LevelName
    bits: tuple[int, ...]
    """Bits of each layer's weights, in the order of the layer table."""
    finetuned: str = ""
    """Name of the fine-tuned weights that replace those of the level; empty: none."""
    activation_bits: tuple[int, ...] = ()
    """Bits of each layer's inputs, in the same order; empty: they are those of the quantizer, and not searched."""


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The genotypes that a search may choose, and their integer genes.

    Gene 0 is the index of the level in ``levels``; gene i is the bits of layer i, counted from 1. Where bits of inputs
    are searched, as many genes follow: the index of the bits of each layer's inputs in ``activation_bits``.

    Raises:
        UserError: there is no level or no layer, levels or bits of inputs do not ascend, or bits are out of range.
    """

    levels: tuple[LevelName, ...]
    """Ascending by ``Level.order``."""
    layers: tuple[str, ...]
    """Names of the layers whose bits are searched."""
    min_bits: int = MIN_BITS
    max_bits: int = MAX_BITS
    activation_bits: tuple[int, ...] = ()
    """Bits that a layer's inputs may have, ascending; empty: they are not searched."""

    def __post_init__(self) -> None:
        if not self.levels or not self.layers:
            raise UserError(f"expected levels and layers to search, found {len(self.levels)} and {len(self.layers)}")
        if list(self.levels) != sorted(set(self.levels), key=lambda name: Level.of(name).order):
            raise UserError(f"expected levels in ascending order, each once, found {list(self.levels)}")
        if not MIN_BITS <= self.min_bits <= self.max_bits <= MAX_BITS:
            raise UserError(
                f"expected {MIN_BITS} <= min_bits <= max_bits <= {MAX_BITS}, found {self.min_bits} and {self.max_bits}"
            )
        if any(fewer >= more for fewer, more in pairwise(self.activation_bits)):
            raise UserError(f"expected activation_bits in ascending order, each once, found {self.activation_bits}")

    @property
    def lower(self) -> NDArray[np.int64]:
        """Smallest value of each gene, shape (genes,)."""
        return np.array([0] + [self.min_bits] * len(self.layers) + [0] * self._inputs)

    @property
    def upper(self) -> NDArray[np.int64]:
        """Largest value of each gene, shape (genes,)."""
        last = len(self.activation_bits) - 1
        return np.array([len(self.levels) - 1] + [self.max_bits] * len(self.layers) + [last] * self._inputs)

    @property
    def size(self) -> int:
        """Number of genotypes."""
        of_a_layer = (self.max_bits - self.min_bits + 1) * max(1, len(self.activation_bits))
        return len(self.levels) * int(of_a_layer ** len(self.layers))

    def decode(self, genes: NDArray[np.generic]) -> Genotype:
        """Return the genotype of one row of genes, shape (genes,); real genes are rounded here only."""
        whole = [int(gene) for gene in np.rint(genes)]
        inputs = tuple(self.activation_bits[gene] for gene in whole[1 + len(self.layers) :])
        return Genotype(self.levels[whole[0]], tuple(whole[1 : 1 + len(self.layers)]), activation_bits=inputs)

    def encode(self, genotype: Genotype) -> NDArray[np.int64]:
        """Return the genes of a genotype, shape (genes,)."""
        inputs = (self.activation_bits.index(bits) for bits in genotype.activation_bits)
        return np.array([self.levels.index(genotype.level), *genotype.bits, *inputs])

    def uniform(self, level: LevelName, bits: int, activation_bits: int | None = None) -> Genotype:
        """Return a genotype with the same bits in every layer.

        Args:
            level: of the library.
            bits: of the weights.
            activation_bits: of the inputs, if they are searched; None: the most.
        """
        inputs = self.activation_bits[-1:] if activation_bits is None else (activation_bits,)
        return Genotype(level, (bits,) * len(self.layers), activation_bits=inputs * self._inputs)

    @property
    def _inputs(self) -> int:
        """Number of layers whose bits of inputs are searched."""
        return len(self.layers) if self.activation_bits else 0
