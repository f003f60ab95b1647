"""Compute the energy, size and cycles of a population of genotypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import library_fixed_bytes, scale_counts
from emomc.common.errors import UserError
from emomc.compression.code_counts import count_codes
from emomc.compression.codings import PAPER_CODINGS, stream_bits
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.hardware.cycles import cycles_to_ms, estimate_cycles
from emomc.hardware.description import Hardware
from emomc.hardware.energy import EnergyBreakdown, energy_breakdown, estimate_energy
from emomc.hardware.layer_report import LayerReport, layer_report
from emomc.hardware.mapping import aim_of
from emomc.hardware.size import BITS_PER_KIB, estimate_size_bits
from emomc.hardware.workload import Workload
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.networks.layers import LayerShape
from emomc.packed_file.size import layer_bytes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PAPER, EXACT = "paper", "exact"


class CostModel:
    """Costs the networks of one library under one accelerator, dataflow, coding and accounting.

    ``paper`` accounting applies the paper's formulas to the densities of the library's masks. ``exact`` counts the
    weights that are not zero after quantization, and the bytes of the packed file. Counts that depend on (level, layer,
    bits) alone are made once, when first needed.
    """

    def __init__(
        self,
        networks: CompressedNetworks,
        hardware: Hardware,
        *,
        dataflow: str,
        coding: str,
        accounting: str = EXACT,
        objectives: Sequence[str] = ("energy",),
    ) -> None:
        """Set the library's networks and the accelerator.

        Args:
            networks: the library's compressed networks.
            hardware: the accelerator.
            dataflow: see ``estimate_energy``.
            coding: ``normal``, ``csr``, ``coo``; with exact accounting any of ``CODING_CHOICES``.
            accounting: ``exact`` or ``paper``.
            objectives: names of objectives; where the hardware leaves a choice of mappings, they choose.

        Raises:
            UserError: the accounting is ``paper``, which has no formula for the coding, or the energies of the hardware
                are not known.
        """
        if not hardware.has_energy:
            raise UserError(
                f"expected hardware with energies for a search, found {hardware.name}, of which only cycles are known"
            )
        if accounting == PAPER and coding not in PAPER_CODINGS:
            raise UserError(f"expected a coding of {', '.join(PAPER_CODINGS)} with paper accounting, found {coding!r}")
        manifest = networks.library.manifest
        self.hardware = hardware
        self.dataflow = dataflow
        self.coding = coding
        self.accounting = accounting
        self.aim = aim_of(objectives, hardware)
        self.layers = manifest.layers
        self.networks = networks
        self._maps = networks.maps
        # The cost is that of the activation bits used in evaluations.
        self._activation_bits = networks.quantizer.activation_bits
        self._searched = np.array([layer.name in networks.shapes for layer in self.layers])
        self._stored = np.array([layer.stored for layer in self.layers])
        # The second operand of a product of activations is as wide as they are.
        width = self._activation_bits or hardware.precision.I
        self._other_bits = np.array([width if layer.kind == "product" else UNCOMPRESSED_BITS for layer in self.layers])
        self._weights = np.array([layer.weights for layer in self.layers])
        self._scales = scale_counts(networks)
        self._fixed_bytes = library_fixed_bytes(networks)
        # (level, layer, bits, name of fine-tuned weights) -> nonzero weights, bits of the coded stream.
        self._counts: dict[tuple[int, int, int, str], tuple[int, int]] = {}

    @property
    def columns(self) -> dict[str, str]:
        """Objective -> the column of ``costs`` that it minimises."""
        latency = "cycles" if self.hardware.clock_mhz is None else "latency_ms"
        return {
            "energy": "energy_mj" if self.hardware.has_joules else "energy_mac16",
            "size": "size_kib",
            "latency": latency,
        }

    def costs(self, genotypes: Sequence[Genotype]) -> dict[str, FloatArray]:
        """Return each cost of each genotype.

        Args:
            genotypes: n of them.

        Returns:
            Columns of shape (n,): ``energy_mj`` of one image (``energy_mac16``, in 16-bit MACs, where the hardware's
            energies are relative), ``size_kib`` and with exact accounting ``size_bytes``, ``cycles`` of one image, and
            ``latency_ms`` where the hardware has a clock.
        """
        return self._costs(self._workload(genotypes), self._numbers(genotypes))

    def uncompressed(self) -> dict[str, float]:
        """Return the costs of the dense network at 32 bits, every weight stored, under the same dataflow."""
        bits = self._other_bits[None, :]
        stored = None if self.accounting == PAPER else self._weights * bits
        workload = Workload(self.layers, bits, np.ones(bits.shape), stored, self._activation_bits, maps=self._maps)
        columns = self._costs(workload, np.zeros(len(self.layers), np.int64))
        costs = {name: float(column.item()) for name, column in columns.items()}
        if self.accounting == PAPER:
            # Without indices in any coding: a dense network needs none, and they would make every ratio look better.
            costs["size_kib"] = float(self._weights[self._stored].sum()) * UNCOMPRESSED_BITS / BITS_PER_KIB
        return costs

    def density(self, genotype: Genotype) -> dict[str, float]:
        """Return the fraction of each layer's weights that the accounting counts as nonzero, 0..1."""
        (density,) = self._workload([genotype]).density
        return {layer.name: float(value) for layer, value in zip(self.layers, density, strict=True)}

    def bits(self, genotype: Genotype) -> dict[str, int]:
        """Return the bits of each layer's weights; of a product, those of its second operand."""
        bits = self._other_bits.copy()
        bits[self._searched] = genotype.bits
        return {layer.name: int(width) for layer, width in zip(self.layers, bits, strict=True)}

    def energy_by_layer(self, genotypes: Sequence[Genotype]) -> EnergyBreakdown:
        """Return the energy of each genotype by layer and part."""
        return energy_breakdown(self._workload(genotypes), **self._on)

    def bytes_by_layer(self, genotypes: Sequence[Genotype]) -> FloatArray:
        """Return the stored bytes of each layer, shape (n, layers)."""
        return self._layer_bytes(self._workload(genotypes), self._numbers(genotypes))

    def report(self, genotype: Genotype) -> LayerReport:
        """Return the cost of each layer of one genotype."""
        workload = self._workload([genotype])
        (stored_bytes,) = self._layer_bytes(workload, self._numbers([genotype]))
        return layer_report(workload, **self._on, stored_bits=8 * stored_bytes)

    @property
    def _on(self) -> dict[str, Any]:
        return {"dataflow": self.dataflow, "hardware": self.hardware, "aim": self.aim}

    def _costs(self, workload: Workload, numbers: IntArray) -> dict[str, FloatArray]:
        on = self._on
        costs = {self.columns["energy"]: estimate_energy(workload, **on)}
        if workload.coded_bits is None:
            costs["size_kib"] = (self._stored * estimate_size_bits(workload, coding=self.coding)).sum(1) / BITS_PER_KIB
        else:
            size_bytes = self._fixed_bytes + self._layer_bytes(workload, numbers).sum(axis=1)
            costs |= {"size_kib": size_bytes / 1024, "size_bytes": size_bytes}
        costs["cycles"] = estimate_cycles(workload, **on).sum(axis=1)
        if self.hardware.clock_mhz is not None:
            costs["latency_ms"] = cycles_to_ms(costs["cycles"], self.hardware)
        return costs

    def _layer_bytes(self, workload: Workload, numbers: IntArray) -> FloatArray:
        if workload.coded_bits is None:
            return self._stored * estimate_size_bits(workload, coding=self.coding) / 8
        return self._stored * layer_bytes(workload.coded_bits.astype(np.int64), numbers).astype(np.float64)

    def _numbers(self, genotypes: Sequence[Genotype]) -> IntArray:
        """Return how many scales and steps of inputs each layer has in the packed file, shape (n, layers)."""
        scales = np.tile(self._scales, (len(genotypes), 1))
        scales[:, self._searched] *= np.array([genotype.bits for genotype in genotypes]) != UNCOMPRESSED_BITS
        rounded = np.array([[self.networks.rounds_inputs(genotype)] for genotype in genotypes])
        return scales + rounded

    def _workload(self, genotypes: Sequence[Genotype]) -> Workload:
        """Return the workload of the genotypes, with the densities and bits of the accounting."""
        bits = np.tile(self._other_bits, (len(genotypes), 1))
        bits[:, self._searched] = [genotype.bits for genotype in genotypes]
        if self.accounting == PAPER:
            density = np.array([paper_density(self.networks.library, genotype.level) for genotype in genotypes])
            return Workload(self.layers, bits, density, activation_bits=self._activation_bits, maps=self._maps)
        counts = np.array(
            [
                [self._count(genotype.level, layer, int(width), genotype.finetuned) for layer, width in enumerate(row)]
                for genotype, row in zip(genotypes, bits, strict=True)
            ]
        )
        density, coded_bits = counts[:, :, 0] / self._weights, counts[:, :, 1]
        return Workload(self.layers, bits, density, coded_bits, self._activation_bits, maps=self._maps)

    def _count(self, level: int, layer: int, bits: int, finetuned: str) -> tuple[int, int]:
        """Return the nonzero weights of a layer and the bits of its coded stream."""
        key = (level, layer, bits, finetuned)
        if key not in self._counts:
            self._counts[key] = self._count_now(level, self.layers[layer], bits, finetuned)
        return self._counts[key]

    def _count_now(self, level: int, layer: LayerShape, bits: int, finetuned: str) -> tuple[int, int]:
        if not layer.stored:
            return layer.weights, layer.weights * bits
        name = layer.name
        if bits == UNCOMPRESSED_BITS:
            weights = self.networks.level(level).weights[name]
            return int(weights.count_nonzero()), weights.numel() * UNCOMPRESSED_BITS
        counts = count_codes(self.networks.quantized(level, name, bits, finetuned).codes.cpu().numpy())
        return counts.nonzeros, stream_bits(counts, bits, self.coding)


def paper_density(library: Library, level: int) -> FloatArray:
    """Return the fraction of each layer's weights that a level's masks keep, shape (layers,); 1 if excluded."""
    remaining = library.record(level).remaining
    return np.array([remaining.get(layer.name, layer.weights) / layer.weights for layer in library.manifest.layers])


def uncompressed_genotype(library: Library) -> Genotype:
    """Return the dense network at 32 bits as a genotype."""
    return Genotype(DENSE, (UNCOMPRESSED_BITS,) * len(library.manifest.compressed_layers))
