"""Estimate the energy of a population of compressed networks.

All functions are vectorised over candidates and layers. Biases, normalisation, activation functions and pooling cost no
energy. ``docs/cost_model.md`` explains the model with one worked layer.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.dataflows import Dataflow, dataflows_named
from emomc.hardware.description import Hardware
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
    """Multiply-accumulates."""
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


def estimate_energy(workload: Workload, *, dataflow: str, hardware: Hardware) -> Array:
    """Return the energy of one forward pass of one image for each candidate.

    Args:
        workload: the candidates.
        dataflow: a name of ``DATAFLOWS``, or ``best``: for each candidate the one with the least energy.
        hardware: the accelerator; it also says how accesses are counted.

    Returns:
        Shape (n,), in mJ, or in 16-bit MACs for hardware with relative energies (``hardware.energy_label``).

    Raises:
        UserError: there is no such dataflow.
    """
    choices = dataflows_named(dataflow)
    expanded = CallWorkload.of(workload, hardware)
    energy = np.empty(len(expanded.bits))
    for rows, block in expanded.blocks():
        energy[rows] = np.min([energy_total(block, choice) for choice in choices], axis=0)
    return energy


def energy_breakdown(workload: Workload, *, dataflow: str, hardware: Hardware) -> EnergyBreakdown:
    """Return the energy of each candidate by layer and by part; arguments as in ``estimate_energy``."""
    choices = dataflows_named(dataflow)
    expanded = CallWorkload.of(workload, hardware)
    energies = [_energy_of_parts(expanded, choice) for choice in choices]
    chosen = np.argmin([np.sum(list(parts.values()), axis=0).sum(axis=1) for parts in energies], axis=0)
    rows = np.arange(len(chosen))
    least = {part: np.stack([parts[part] for parts in energies])[chosen, rows] for part in ENERGY_PARTS}
    names = tuple(choices[index].name for index in chosen)
    return EnergyBreakdown(**least, dataflows=names, unit=hardware.energy_label)


def energy_total(expanded: CallWorkload, dataflow: Dataflow) -> Array:
    """Return the energy of each candidate under one dataflow, shape (n,)."""
    energy = _mac_part(expanded)
    for flow in expanded.flows(dataflow):
        energy += flow.energy
    return energy.sum(axis=1) * expanded.hardware.energy_scale


def _mac_part(expanded: CallWorkload) -> Array:
    """Return the MACs of nonzero weights x the energy of one MAC: M p e(q).

    Ignores idle PEs and zero activations. Source: the paper.
    """
    mac = expanded.hardware.operational_array.mac
    if mac is None:
        raise UserError(
            f"expected hardware with energies, found {expanded.hardware.name}, whose cycles alone are known"
        )
    per_mac = mac.energy(expanded.bits, expanded.activation_bits)
    return per_mac * expanded.zeros.in_pe(np.ones_like(expanded.calls.macs)) * expanded.calls.macs


def _energy_of_parts(expanded: CallWorkload, dataflow: Dataflow) -> dict[str, Array]:
    """Return the energy of each part of ``ENERGY_PARTS`` under one dataflow, each of shape (n, layers)."""
    hardware = expanded.hardware
    parts: dict[str, Array] = {part: np.zeros(expanded.bits.shape) for part in ENERGY_PARTS}
    parts["mac"] += _mac_part(expanded)
    for flow in expanded.flows(dataflow):
        part = "dram" if flow.memory is hardware.off_chip else _PART_OF_OPERAND[flow.operand]
        parts[part] += flow.energy
    return {part: expanded.calls.per_layer(energy) * hardware.energy_scale for part, energy in parts.items()}
