"""The RAM and flash that candidates need as a program in C, known before one is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import describe, pack_candidate
from emomc.common.errors import UserError
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.c.arithmetic import Arithmetic
from emomc.export.c.footprint import footprint, ram_bytes
from emomc.export.c.lowering import lower_folded
from emomc.export.c.program import Program
from emomc.export.c.writing import in_arithmetic
from emomc.packed_file.network import PackedLayer, PackedNetwork


@dataclasses.dataclass(frozen=True)
class CNeeds:
    """What a candidate needs as the program that ``emomc-export --format c`` writes."""

    c_arithmetic: Arithmetic
    ram_bytes: int
    """Of static data; the stack comes on top."""
    flash_bytes: int
    """Of weights and other constants; the code comes on top."""


class CMemory:
    """Counts the memory that candidates of a library need as programs in C."""

    def __init__(self, networks: CompressedNetworks, coding: str) -> None:
        """Prepare for a library.

        Args:
            networks: its compressed networks.
            coding: one of ``CODING_CHOICES``: how the weights are stored.
        """
        self._networks = networks
        self._coding = coding
        self._templates: dict[tuple[bool, ...], Program] = {}
        """Whether the inputs of each layer are rounded -> the program of floats, with any weights."""
        self._ram: dict[Genotype, int] = {}
        self._needs: dict[Genotype, CNeeds | None] = {}

    def ram_bytes(self, genotype: Genotype) -> int:
        """Return the bytes of RAM of a candidate; no weight is quantized for them.

        Raises:
            UserError: the network has operations that cannot be written in C.
        """
        # They depend on which layers are quantized, not on the bits of their weights.
        widths = tuple(bits if bits == UNCOMPRESSED_BITS else 0 for bits in genotype.bits)
        key = dataclasses.replace(genotype, bits=widths, finetuned="")
        if key not in self._ram:
            self._ram[key] = ram_bytes(self._program(self._without_weights(genotype)), self._coding)
        return self._ram[key]

    def needs(self, genotype: Genotype, coded_bits: Mapping[str, int]) -> CNeeds | None:
        """Return what a candidate needs; None if it cannot be written in C.

        Args:
            genotype: of the candidate.
            coded_bits: layer name -> bits of its weights in the coding.
        """
        if genotype not in self._needs:
            self._needs[genotype] = self._count(genotype, coded_bits)
        return self._needs[genotype]

    def _count(self, genotype: Genotype, coded_bits: Mapping[str, int]) -> CNeeds | None:
        packed = pack_candidate(self._networks, genotype)
        try:
            program = self._program(packed)
        except UserError:
            return None
        found = footprint(program, self._coding, channels=len(packed.description.mean), coded_bits=coded_bits)
        return CNeeds(program.arithmetic, found.ram_bytes, found.flash_bytes)

    def _program(self, packed: PackedNetwork) -> Program:
        rounded = tuple(layer.inputs is not None for layer in packed.layers)
        if rounded not in self._templates:
            self._templates[rounded] = lower_folded(self._networks.folded_copy(), packed)
        return in_arithmetic(self._templates[rounded].with_layers(packed), packed)

    def _without_weights(self, genotype: Genotype) -> PackedNetwork:
        networks = self._networks
        bits_of = dict(zip(networks.layers, genotype.bits, strict=True))
        grids = networks.grids(genotype) or {}
        weights = networks.level(genotype.level).weights
        layers = []
        for layer in networks.library.manifest.stored_layers:
            name = layer.name
            bits = bits_of.get(name, UNCOMPRESSED_BITS)
            whole = bits == UNCOMPRESSED_BITS
            codes = np.zeros(weights[name].shape, np.float32 if whole else np.int8)
            layers.append(PackedLayer(name, bits, codes, np.ones(0 if whole else 1, np.float32), grids.get(name)))
        return PackedNetwork(describe(networks.library), tuple(layers), {})


def needs_entries(needs: CNeeds | None) -> dict[str, Any]:
    """Return what a candidate needs as entries of front.json; None where it cannot be written in C."""
    names = [field.name for field in dataclasses.fields(CNeeds)]
    return {name: None if needs is None else getattr(needs, name) for name in names}
