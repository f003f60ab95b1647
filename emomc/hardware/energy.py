"""Estimate the energy of a population of compressed networks.

All functions are vectorised over candidates and layers. Biases, normalisation, activation functions and pooling cost no
energy. ``docs/cost_model.md`` explains the model with one worked layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.choice import Choice, choose
from emomc.hardware.dataflows import BEST_PER_LAYER
from emomc.hardware.description import Hardware
from emomc.hardware.mapping import ENERGY, Mapping
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]

ENERGY_PARTS = {
    "mac": "multiply-accumulates",
    "input": "input reads",
    "weight": "weight reads",
    "output": "outputs",
    "dram": "DRAM",
}
"""Field of ``EnergyBreakdown`` -> its name in reports, in display order."""
_PART_OF_OPERAND = {"I": "input", "W": "weight", "O": "output"}


@dataclasses.dataclass(frozen=True)
class EnergyBreakdown:
    """Energy of one forward pass of one image, by candidate and layer; all parts of shape (n, layers), in ``unit``."""

    mac: Array
    """Multiply-accumulates, and what runs with the clock."""
    input: Array
    """Reads of input maps, on chip."""
    weight: Array
    """Reads of weights, on chip."""
    output: Array
    """Writes of outputs, reads and writes of partial sums, on chip."""
    dram: Array
    """All accesses of ``Hardware.off_chip``; 0 if there is no such memory."""
    dataflows: tuple[str, ...]
    """Name of the dataflow of each candidate, n of them."""
    unit: str
    """mJ, or 16-bit MACs for hardware with relative energies."""

    @property
    def per_layer(self) -> Array:
        """Energy of each layer, shape (n, layers)."""
        return self.mac + self.input + self.weight + self.output + self.dram

    @property
    def total(self) -> Array:
        """Energy of each network, shape (n,)."""
        return self.per_layer.sum(axis=1)


def joined_rows(parts: Sequence[tuple[Sequence[int], EnergyBreakdown]], count: int) -> EnergyBreakdown:
    """Return the breakdown of all candidates from those of some of them, of networks with as many layers.

    Args:
        parts: positions of candidates, and their breakdown; each candidate once.
        count: number of candidates.
    """
    first = parts[0][1]
    dataflows = [""] * count
    joined = {name: np.empty((count, first.mac.shape[1])) for name in ENERGY_PARTS}
    for rows, part in parts:
        for row, dataflow in zip(rows, part.dataflows, strict=True):
            dataflows[row] = dataflow
        for name, array in joined.items():
            array[list(rows)] = getattr(part, name)
    return EnergyBreakdown(**joined, dataflows=tuple(dataflows), unit=first.unit)


def estimate_energy(workload: Workload, *, dataflow: str, hardware: Hardware, aim: str = ENERGY) -> Array:
    """Return the energy of one forward pass of one image for each candidate.

    Args:
        workload: the candidates.
        dataflow: a name of ``DATAFLOWS``; ``best``: for each candidate the one that is best for the aim;
            ``best_per_layer``: the same for each layer.
        hardware: the accelerator; it also says how accesses are counted.
        aim: what is to be small where there is a choice of mappings: ``energy``, ``latency`` or their ``product``.

    Returns:
        Shape (n,), in mJ, or in 16-bit MACs for hardware with relative energies (``hardware.energy_label``).

    Raises:
        UserError: there is no such dataflow or aim, or the energies of the hardware are not known.
    """
    _check_energies(hardware)
    expanded = CallWorkload.of(workload, hardware)
    energy = np.empty(len(expanded.bits))
    for rows, block in expanded.blocks():
        choice = choose(block, dataflow, aim)
        energy[rows] = choice.per_layer([mapping.energy for mapping in choice.mappings]).sum(axis=1)
    return energy * hardware.energy_scale


def energy_breakdown(workload: Workload, *, dataflow: str, hardware: Hardware, aim: str = ENERGY) -> EnergyBreakdown:
    """Return the energy of each candidate by layer and by part; arguments as in ``estimate_energy``."""
    _check_energies(hardware)
    return layer_energies(workload, dataflow=dataflow, hardware=hardware, aim=aim)


def layer_energies(workload: Workload, *, dataflow: str, hardware: Hardware, aim: str = ENERGY) -> EnergyBreakdown:
    """As ``energy_breakdown``; all parts are 0 where the hardware has no energies."""
    return breakdown_of(choose(CallWorkload.of(workload, hardware), dataflow, aim), dataflow)


def breakdown_of(choice: Choice, dataflow: str) -> EnergyBreakdown:
    """Return the energy of mappings that are chosen; all parts are 0 where the hardware has no energies."""
    hardware = choice.work.hardware
    by_dataflow = [_energy_of_parts(mapping) for mapping in choice.mappings]
    parts = {
        part: choice.per_layer([energies[part] for energies in by_dataflow]) * hardware.energy_scale
        for part in ENERGY_PARTS
    }
    names = [one.name for one in choice.dataflows]
    chosen = tuple(dataflow if dataflow == BEST_PER_LAYER else names[row[0]] for row in choice.index)
    return EnergyBreakdown(**parts, dataflows=chosen, unit=hardware.energy_label)


def _check_energies(hardware: Hardware) -> None:
    if not hardware.has_energy:
        raise UserError(f"expected hardware with energies, found {hardware.name}, of which only cycles are known")


def _energy_of_parts(mapping: Mapping) -> dict[str, Array]:
    """Return the energy of each part of ``ENERGY_PARTS``, in the hardware's unit, by call."""
    hardware = mapping.hardware
    parts: dict[str, Array] = {part: np.zeros((1, 1)) for part in ENERGY_PARTS}
    parts["mac"] = mapping.mac_energy + hardware.energy_per_cycle * mapping.cycles
    for flow in (*mapping.flows, *mapping.moves):
        part = "dram" if flow.memory is hardware.off_chip else _PART_OF_OPERAND[flow.operand]
        parts[part] = parts[part] + flow.energy
    return parts
