"""What candidates cost: from genotypes to energy and size, a whole population at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emomc.cost import estimate_energy, estimate_size
from emomc.genotype import Genotype
from emomc.hardware import Hardware
from emomc.library import DENSE, Library
from emomc.quantization import UNCOMPRESSED_BITS

FloatArray = NDArray[np.float64]

COLUMNS = {"energy": "energy_mj", "size": "size_kib"}
"""Objective -> the column of ``CostModel.costs`` that it minimises."""


class CostModel:
    """The paper's formulas applied to one library's networks.

    Densities are those of the library's masks. Layers that the library excludes cost what they cost uncompressed.
    """

    def __init__(self, library: Library, hardware: Hardware, *, dataflow: str, coding: str) -> None:
        """Tabulate the densities of the library's levels.

        Args:
            library: layers and levels.
            hardware: the accelerator.
            dataflow: see ``estimate_energy``.
            coding: see ``estimate_size``.
        """
        self.hardware = hardware
        self.dataflow = dataflow
        self.coding = coding
        self._layers = library.manifest.layers
        compressed = {layer.name for layer in library.manifest.compressed_layers}
        self._searched = np.array([layer.name in compressed for layer in self._layers])
        self._density = {
            record.percent: np.array(
                [record.remaining.get(layer.name, layer.weights) / layer.weights for layer in self._layers]
            )
            for record in library.manifest.levels
        }

    def costs(self, genotypes: Sequence[Genotype]) -> dict[str, FloatArray]:
        """Return each cost of each genotype.

        Args:
            genotypes: n of them.

        Returns:
            ``energy_mj`` (energy of one image) and ``size_kib`` (1 KiB = 8,192 bits), each of shape (n,).
        """
        bits, density = self._tables(genotypes)
        energy = estimate_energy(self._layers, bits, density, dataflow=self.dataflow, hardware=self.hardware)
        size = estimate_size(self._layers, bits, density, coding=self.coding)
        return {"energy_mj": energy, "size_kib": size}

    def uncompressed(self) -> dict[str, float]:
        """Return the costs of the dense network at 32 bits, stored densely, under the same dataflow."""
        bits = np.full((1, len(self._layers)), UNCOMPRESSED_BITS)
        density = np.ones(bits.shape)
        energy = estimate_energy(self._layers, bits, density, dataflow=self.dataflow, hardware=self.hardware)
        size = estimate_size(self._layers, bits, density, coding="normal")
        return {"energy_mj": float(energy[0]), "size_kib": float(size[0])}

    def density(self, level: int) -> dict[str, float]:
        """Return the density of each layer at a level, 0..1."""
        values = self._density[level]
        return {layer.name: float(value) for layer, value in zip(self._layers, values, strict=True)}

    def _tables(self, genotypes: Sequence[Genotype]) -> tuple[NDArray[np.int64], FloatArray]:
        bits = np.full((len(genotypes), len(self._layers)), UNCOMPRESSED_BITS)
        bits[:, self._searched] = [genotype.bits for genotype in genotypes]
        density = np.array([self._density[genotype.level] for genotype in genotypes])
        return bits, density


def uncompressed_genotype(library: Library) -> Genotype:
    """Return the dense network at 32 bits as a genotype."""
    return Genotype(DENSE, (UNCOMPRESSED_BITS,) * len(library.manifest.compressed_layers))
