"""Compute the energy, size and cycles of a population of genotypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.c_memory import CMemory, CNeeds
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import bias_bytes, library_fixed_bytes, scale_bytes
from emomc.common.errors import UserError
from emomc.compression.code_counts import count_codes
from emomc.compression.codings import PAPER_CODINGS, stream_bits
from emomc.compression.levels import LevelName
from emomc.compression.pattern_counts import shape_of
from emomc.compression.widths import FULL_ACTIVATION_BITS, UNCOMPRESSED_BITS
from emomc.hardware.description import Hardware, Target
from emomc.hardware.energy import EnergyBreakdown, joined_rows, layer_energies
from emomc.hardware.layer_report import LayerReport, layer_report
from emomc.hardware.mapping import aim_of
from emomc.hardware.measured_report import MeasuredReport, measured_report
from emomc.hardware.network_costs import CYCLES, ENERGY_COLUMN, LATENCY_MS, network_costs
from emomc.hardware.size import BITS_PER_KIB, estimate_size_bits
from emomc.hardware.workload import ByLayer, OtherZeros, Workload
from emomc.hardware.zero_skipping import SKIPS_WEIGHTS, STRUCTURED
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.networks.consumers import find_consumers
from emomc.networks.layers import LayerShape
from emomc.packed_file.layout import STEP
from emomc.packed_file.size import layer_bytes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
OwnBytes = tuple[IntArray, IntArray]
"""What a layer adds to a file besides its stream: bytes of its scales; of its bias and of the step of its inputs."""

PAPER, EXACT = "paper", "exact"
RAM_COLUMN = "ram_bytes"
"""Column of ``CostModel.costs``: bytes of RAM of the program in C."""


class CostModel:
    """Costs the networks of one library under one accelerator, dataflow, coding and accounting.

    ``paper`` accounting applies the paper's formulas to the densities of the library's masks. ``exact`` counts the
    weights that are not zero after quantization, and the bytes of the packed file. Counts that depend on (level, layer,
    bits) alone are made once, when first needed.
    """

    def __init__(
        self,
        networks: CompressedNetworks,
        hardware: Target,
        *,
        dataflow: str,
        coding: str,
        accounting: str = EXACT,
        count_ram: bool = False,
        objectives: Sequence[str] = ("energy",),
    ) -> None:
        """Set the library's networks and the accelerator.

        Args:
            networks: the library's compressed networks.
            hardware: the accelerator, or a device that was measured.
            dataflow: see ``estimate_energy``.
            coding: ``normal``, ``csr``, ``coo``; with exact accounting any of ``CODING_CHOICES``.
            accounting: ``exact`` or ``paper``.
            count_ram: whether the RAM of a candidate in C is one of its costs.
            objectives: names of objectives; where the hardware leaves a choice of mappings, they choose.

        Raises:
            UserError: the accounting is ``paper``, which has no formula for the coding.
        """
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
        self._c_memory = CMemory(networks, coding)
        self._count_ram = count_ram
        self._further: dict[str, Any] = {
            "dataflow": dataflow,
            "coding": coding,
            "accounting": accounting,
            "count_ram": count_ram,
            "objectives": tuple(objectives),
        }
        self._smaller: dict[CompressedNetworks, CostModel] = {}
        self._maps = networks.maps
        # The cost is that of the activation bits used in evaluations; what is not searched has the most.
        self._widths = networks.quantizer.layer_activation_bits
        self._activation_bits = max(self._widths, default=networks.quantizer.activation_bits)
        self._consumers = _consumers(networks, self.layers) if self._widths else []
        self._searched = np.array([layer.name in networks.shapes for layer in self.layers])
        self._stored = np.array([layer.stored for layer in self.layers])
        # The second operand of a product of activations is as wide as they are.
        width = self._activation_bits or hardware.precision.I
        self._other_bits = np.array([width if layer.kind == "product" else UNCOMPRESSED_BITS for layer in self.layers])
        self._weights = np.array([layer.weights for layer in self.layers])
        self._scale_bytes = scale_bytes(networks)
        self._half_bias_bytes, self._full_bias_bytes = (bias_bytes(networks, half=half) for half in (True, False))
        self._fixed_bytes = library_fixed_bytes(networks)
        zeros = hardware.zero_skipping if isinstance(hardware, Hardware) else SKIPS_WEIGHTS
        self._structured = zeros if zeros.W == STRUCTURED else None
        # (level, layer, bits, name of fine-tuned weights) -> what is counted.
        self._counts: dict[tuple[LevelName, int, int, str], tuple[int, int, float]] = {}

    @property
    def columns(self) -> dict[str, str]:
        """Objective -> the column of ``costs`` that it minimises; of those objectives that are known."""
        hardware = self.hardware
        energy = {"energy": "energy_mj" if hardware.has_joules else "energy_mac16"} if hardware.has_energy else {}
        return energy | {"size": "size_kib", "latency": LATENCY_MS if hardware.has_milliseconds else CYCLES}

    def costs(self, genotypes: Sequence[Genotype]) -> dict[str, FloatArray]:
        """Return each cost of each genotype.

        Args:
            genotypes: n of them.

        Returns:
            Columns of shape (n,): ``energy_mj`` of one image (``energy_mac16``, in 16-bit MACs, where the hardware's
            energies are relative), ``size_kib`` and with exact accounting ``size_bytes``, ``cycles`` of one image, and
            ``latency_ms`` where the hardware has a clock; ``ram_bytes`` where the RAM is counted. Energies, or cycles,
            that are not known are left out.
        """
        found: dict[str, FloatArray] = {}
        for model, rows, some in self._by_model(genotypes):
            for name, column in (self._own_costs(some) if model is self else model.costs(some)).items():
                found.setdefault(name, np.empty(len(genotypes)))[rows] = column
        return found

    def _own_costs(self, genotypes: Sequence[Genotype]) -> dict[str, FloatArray]:
        """Return the costs of genotypes of this model's network; see ``costs``."""
        return self._costs(self._workload(genotypes), self._own_bytes(genotypes)) | self._ram(genotypes)

    def uncompressed(self) -> dict[str, float]:
        """Return the costs of the dense network at 32 bits, every weight stored, under the same dataflow."""
        bits = self._other_bits[None, :]
        stored = None if self.accounting == PAPER else self._weights * bits
        workload = Workload(self.layers, bits, np.ones(bits.shape), stored, self._activation_bits, maps=self._maps)
        columns = self._costs(workload, (np.zeros(len(self.layers), np.int64), self._full_bias_bytes))
        columns |= self._ram([uncompressed_genotype(self.networks.library)])
        costs = {name: float(column.item()) for name, column in columns.items()}
        if self.accounting == PAPER:
            # Without indices in any coding: a dense network needs none, and they would make every ratio look better.
            costs["size_kib"] = float(self._weights[self._stored].sum()) * UNCOMPRESSED_BITS / BITS_PER_KIB
        return costs

    def of(self, level: LevelName) -> CostModel:
        """Return the model of a level: this, or that of the smaller network that a level of channels is."""
        networks = self.networks.of(level)
        if networks is self.networks:
            return self
        if networks not in self._smaller:
            self._smaller[networks] = CostModel(networks, self.hardware, **self._further)
        return self._smaller[networks]

    def density(self, genotype: Genotype) -> dict[str, float]:
        """Return the fraction of the weights of each layer of the whole network that count as nonzero, 0..1."""
        model = self.of(genotype.level)
        if model is not self:
            left = {layer.name: layer.weights / whole for layer, whole in zip(model.layers, self._weights, strict=True)}
            return {name: value * float(left[name]) for name, value in model.density(genotype).items()}
        (density,) = self._workload([genotype]).density
        return {layer.name: float(value) for layer, value in zip(self.layers, density, strict=True)}

    def bits(self, genotype: Genotype) -> dict[str, int]:
        """Return the bits of each layer's weights; of a product, those of its second operand."""
        bits = self._other_bits.copy()
        bits[self._searched] = genotype.bits
        return {layer.name: int(width) for layer, width in zip(self.layers, bits, strict=True)}

    def activation_bits(self, genotype: Genotype) -> dict[str, int] | None:
        """Return the bits of each layer's inputs that the costs are for; None: they are not searched."""
        if not self._widths:
            return None
        (bits,) = self._input_bits([genotype])
        return {layer.name: int(width) for layer, width in zip(self.layers, bits, strict=True)}

    def energy_by_layer(self, genotypes: Sequence[Genotype]) -> EnergyBreakdown | None:
        """Return the dataflow of each genotype, and its energy by layer and part; None for a device that was measured.

        All parts are 0 where the hardware has no energies.
        """
        if not isinstance(self.hardware, Hardware):
            return None
        parts = []
        for model, rows, some in self._by_model(genotypes):
            own = layer_energies(self._workload(some), **self._on) if model is self else model.energy_by_layer(some)
            if own is not None:
                parts.append((rows, own))
        return joined_rows(parts, len(genotypes))

    def bytes_by_layer(self, genotypes: Sequence[Genotype]) -> FloatArray:
        """Return the stored bytes of each layer, shape (n, layers)."""
        found = np.empty((len(genotypes), len(self.layers)))
        for model, rows, some in self._by_model(genotypes):
            if model is self:
                found[rows] = self._layer_bytes(self._workload(some), self._own_bytes(some))
            else:
                found[rows] = model.bytes_by_layer(some)
        return found

    def report(self, genotype: Genotype) -> LayerReport | MeasuredReport:
        """Return the cost of each layer of one genotype."""
        model = self.of(genotype.level)
        if model is not self:
            return model.report(genotype)
        workload = self._workload([genotype])
        (stored_bytes,) = self._layer_bytes(workload, self._own_bytes([genotype]))
        if not isinstance(self.hardware, Hardware):
            stored_bits = (8 * stored_bytes).tolist()
            return measured_report(workload, self.hardware, stored_bits=stored_bits)
        return layer_report(workload, **self._on, stored_bits=8 * stored_bytes)

    @property
    def _on(self) -> dict[str, Any]:
        return {"dataflow": self.dataflow, "hardware": self.hardware, "aim": self.aim}

    def _costs(self, workload: Workload, own_bytes: OwnBytes) -> dict[str, FloatArray]:
        known = network_costs(workload, **self._on)
        costs = {self.columns["energy"]: known.pop(ENERGY_COLUMN)} if ENERGY_COLUMN in known else {}
        if workload.coded_bits is None:
            costs["size_kib"] = (self._stored * estimate_size_bits(workload, coding=self.coding)).sum(1) / BITS_PER_KIB
        else:
            size_bytes = self._fixed_bytes + self._layer_bytes(workload, own_bytes).sum(axis=1)
            costs |= {"size_kib": size_bytes / 1024, "size_bytes": size_bytes}
        return costs | known

    def c_needs(self, genotype: Genotype) -> CNeeds | None:
        """Return what a genotype needs as a program in C; None if it cannot be written in C."""
        model, widths = self.of(genotype.level), self.bits(genotype)
        if model is not self:
            return model.c_needs(genotype)
        coded = {
            layer.name: self._count(genotype.level, place, widths[layer.name], genotype.finetuned)[1]
            for place, layer in enumerate(self.layers)
            if layer.stored
        }
        return self._c_memory.needs(genotype, coded)

    def ram_bytes(self, genotype: Genotype) -> int:
        """Return the bytes of RAM of a genotype as a program in C; see ``CMemory.ram_bytes``."""
        model = self.of(genotype.level)
        return self._c_memory.ram_bytes(genotype) if model is self else model.ram_bytes(genotype)

    def _by_model(self, genotypes: Sequence[Genotype]) -> list[tuple[CostModel, list[int], list[Genotype]]]:
        """Return the models of some genotypes, the positions of each one's genotypes, and these."""
        rows: dict[CostModel, list[int]] = {}
        for row, genotype in enumerate(genotypes):
            rows.setdefault(self.of(genotype.level), []).append(row)
        return [(model, own, [genotypes[row] for row in own]) for model, own in rows.items()]

    def _ram(self, genotypes: Sequence[Genotype]) -> dict[str, FloatArray]:
        if not self._count_ram:
            return {}
        return {RAM_COLUMN: np.array([self._c_memory.ram_bytes(genotype) for genotype in genotypes], np.float64)}

    def _layer_bytes(self, workload: Workload, own_bytes: OwnBytes) -> FloatArray:
        if workload.coded_bits is None:
            return self._stored * estimate_size_bits(workload, coding=self.coding) / 8
        return self._stored * layer_bytes(workload.coded_bits.astype(np.int64), *own_bytes).astype(np.float64)

    def _own_bytes(self, genotypes: Sequence[Genotype]) -> OwnBytes:
        """Return the bytes of scales, and of biases and steps of inputs, each of shape (n, layers)."""
        quantized = np.zeros((len(genotypes), len(self.layers)), bool)
        quantized[:, self._searched] = np.array([genotype.bits for genotype in genotypes]) != UNCOMPRESSED_BITS
        rounded = np.array([[self.networks.rounds_inputs(genotype)] for genotype in genotypes])
        narrow = self._narrow(genotypes)
        half = quantized & self.networks.half & ~(narrow & self.networks.quantizer.integer_biases)
        biases = np.where(half, self._half_bias_bytes, self._full_bias_bytes)
        return quantized * self._scale_bytes, biases + STEP.size * (rounded & narrow)

    def _narrow(self, genotypes: Sequence[Genotype]) -> NDArray[np.bool_]:
        """Return whether the inputs of each layer have fewer bits than full activations, shape (n, layers)."""
        if self._widths:
            return self._input_bits(genotypes) < FULL_ACTIVATION_BITS
        return np.full((len(genotypes), len(self.layers)), self._activation_bits is not None)

    def _input_bits(self, genotypes: Sequence[Genotype]) -> IntArray:
        """Return the bits of the inputs of each layer where they are searched, shape (n, layers)."""
        bits = np.full((len(genotypes), len(self.layers)), self._activation_bits)
        most = (self._activation_bits,) * int(self._searched.sum())
        bits[:, self._searched] = [genotype.activation_bits or most for genotype in genotypes]
        return bits

    def _output_bits(self, input_bits: IntArray) -> IntArray:
        """Return the bits of the outputs of each layer in the outer memories, shape (n, layers).

        They are those of the widest input that takes the outputs; the last layers' are as wide as their own inputs.
        """
        return np.stack([input_bits[:, takers].max(axis=1) for takers in self._consumers], axis=1)

    def _workload(self, genotypes: Sequence[Genotype]) -> Workload:
        """Return the workload of the genotypes, with the densities and bits of the accounting."""
        bits = np.tile(self._other_bits, (len(genotypes), 1))
        bits[:, self._searched] = [genotype.bits for genotype in genotypes]
        widths: dict[str, Any] = {"activation_bits": self._activation_bits, "maps": self._maps}
        if self._widths:
            input_bits = self._input_bits(genotypes)
            widths["activation_bits"] = ByLayer(input_bits, self._output_bits(input_bits), max(self._widths))
        if self.accounting == PAPER:
            density = np.array([paper_density(self.networks.library, genotype.level) for genotype in genotypes])
            return Workload(self.layers, bits, density, **widths)
        counts = np.array(
            [
                [self._count(genotype.level, layer, int(width), genotype.finetuned) for layer, width in enumerate(row)]
                for genotype, row in zip(genotypes, bits, strict=True)
            ]
        )
        if self._structured is not None:
            widths["other_zeros"] = OtherZeros(structured_density=counts[:, :, 2])
        return Workload(self.layers, bits, counts[:, :, 0] / self._weights, counts[:, :, 1], **widths)

    def _count(self, level: LevelName, layer: int, bits: int, finetuned: str) -> tuple[int, int, float]:
        """Return the nonzero weights of a layer, the bits of its stream, and its density in the hardware's pattern."""
        key = (level, layer, bits, finetuned)
        if key not in self._counts:
            self._counts[key] = self._count_now(level, self.layers[layer], bits, finetuned)
        return self._counts[key]

    def _count_now(self, level: LevelName, layer: LayerShape, bits: int, finetuned: str) -> tuple[int, int, float]:
        if not layer.stored:
            return layer.weights, layer.weights * bits, 1.0
        name = layer.name
        if bits == UNCOMPRESSED_BITS:
            weights = self.networks.level(level).weights[name]
            nonzero = (weights != 0).cpu().numpy().reshape(shape_of(weights.shape))
            return int(nonzero.sum()), weights.numel() * UNCOMPRESSED_BITS, self._density_in_pattern(nonzero)
        counts = count_codes(self.networks.quantized(level, name, bits, finetuned).codes.cpu().numpy())
        return counts.nonzeros, stream_bits(counts, bits, self.coding), self._density_in_pattern(counts.nonzero)

    def _density_in_pattern(self, nonzero: NDArray[np.bool_]) -> float:
        return 1.0 if self._structured is None else self._structured.pattern_density(nonzero)


def _consumers(networks: CompressedNetworks, layers: Sequence[LayerShape]) -> list[list[int]]:
    """Return the positions of the layers that take each layer's outputs; its own if none does."""
    position = {layer.name: number for number, layer in enumerate(layers)}
    takers = find_consumers(networks.graph)
    return [sorted(position[name] for name in takers.get(layer.name) or {layer.name}) for layer in layers]


def paper_density(library: Library, level: LevelName) -> FloatArray:
    """Return the fraction of each layer's weights that a level's masks keep, shape (layers,); 1 if excluded."""
    remaining = library.record(level).remaining
    return np.array([remaining.get(layer.name, layer.weights) / layer.weights for layer in library.manifest.layers])


def uncompressed_genotype(library: Library) -> Genotype:
    """Return the dense network at 32 bits as a genotype."""
    return Genotype(DENSE, (UNCOMPRESSED_BITS,) * len(library.manifest.compressed_layers))
