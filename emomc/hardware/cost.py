"""Energy, size and cycles of a whole population of compressed networks at once.

Every function takes one row per candidate and one column per layer, and loops over neither; candidates are only cut
into large blocks. Biases, normalisation, activations and pooling cost nothing. ``docs/cost_model.md`` explains the
model with one worked layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.call_table import CallTable, check_layers, tabulate_calls
from emomc.hardware.dataflows import BEST, DATAFLOWS, check_dataflow
from emomc.hardware.description import Hardware
from emomc.hardware.mac_energy import mac_energy
from emomc.hardware.paper_counts import paper_flows
from emomc.hardware.reuse_counts import array_use, reuse_flows
from emomc.hardware.traffic import Flow, Survival
from emomc.networks.layers import LayerShape

Array = npt.NDArray[np.float64]

CODINGS = ("normal", "csr", "coo")
"""Weight codings that the paper gives a size formula for."""
UNCOMPRESSED_BITS = 32
"""Bits of a weight that is left as it is (fp32)."""
BITS_PER_KIB = 8192
_BLOCK_VALUES = 1 << 14

_CODING_LABELS = {"normal": "normal", "csr": "CSR", "coo": "COO", "bitmap": "bitmap", "best": "best"}
PARTS = ("mac", "input", "weight", "output", "dram")
"""Parts of the energy, by the names of ``EnergyBreakdown``."""
_PART_OF_OPERAND = {"I": "input", "W": "weight", "O": "output"}


def coding_label(name: str) -> str:
    """Return the name of a coding as people write it, such as ``CSR`` for ``csr``."""
    if name not in _CODING_LABELS:
        raise UserError(f"expected a coding among {', '.join(_CODING_LABELS)}, found {name!r}")
    return _CODING_LABELS[name]


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
    """Everything at the outermost memory, if there are several shared ones."""
    dataflows: tuple[str, ...]
    """The dataflow of each candidate, n of them."""
    unit: str
    """mJ, or 16-bit MACs for a hardware whose energies are relative."""

    @property
    def per_layer(self) -> Array:
        """Energy of each layer, shape (n, layers)."""
        return self.mac + self.input + self.weight + self.output + self.dram

    @property
    def total(self) -> Array:
        """Energy of each network, shape (n,)."""
        return self.per_layer.sum(axis=1)


@dataclasses.dataclass(frozen=True)
class _Population:
    """Checked arguments: one row per candidate, one column per call."""

    calls: CallTable
    bits: Array
    density: Array
    coded_bits: Array | None
    hardware: Hardware
    activation_bits: int

    @functools.cached_property
    def survival(self) -> Survival:
        """Chances of accesses at the candidates' densities."""
        return Survival(self.density)

    def blocks(self) -> Iterator[tuple[slice, _Population]]:
        """Cut the candidates into blocks whose intermediate arrays stay in the processor's cache."""
        rows = max(1, _BLOCK_VALUES // self.bits.shape[1])
        for start in range(0, len(self.bits), rows):
            block = slice(start, start + rows)
            coded_bits = None if self.coded_bits is None else self.coded_bits[block]
            yield (
                block,
                dataclasses.replace(self, bits=self.bits[block], density=self.density[block], coded_bits=coded_bits),
            )

    def flows(self, dataflow: str) -> list[Flow]:
        """Return what moves at each memory under a dataflow."""
        if self.hardware.counts == "paper":
            memory, precision = self.hardware.memories[0], self.hardware.precision
            precision = dataclasses.replace(precision, I=self.activation_bits)
            return paper_flows(self.calls, dataflow, self.bits, self.survival, memory, precision)
        return reuse_flows(
            self.calls, dataflow, self.bits, self.coded_bits, self.survival, self.hardware, self.activation_bits
        )


def estimate_energy(
    layers: Sequence[LayerShape],
    bits: npt.ArrayLike,
    density: npt.ArrayLike,
    *,
    dataflow: str,
    hardware: Hardware,
    coded_bits: npt.ArrayLike | None = None,
    activation_bits: int | None = None,
) -> Array:
    """Return the energy of one forward pass of one image for each candidate.

    Args:
        layers: the layers of the network; a layer called several times costs each call.
        bits: bits per weight, integers 1..32, shape (n, layers); 32 for an uncompressed layer.
        density: fraction of weights that are not zero, [0, 1], shape (n, layers).
        dataflow: one of ``DATAFLOWS``, or ``best``: the one of least energy for each candidate.
        hardware: the accelerator; it also says how accesses are counted.
        coded_bits: bits of each layer's coded weights, >= 0, shape (n, layers). None: all weights travel, pruned or
            not, with ``bits`` and the memory's extra bits each. The paper's counts know no coding and do not use it.
        activation_bits: bits of an input (and of a finished output in the memories further out) in place of the
            hardware's; partial sums keep the hardware's.

    Returns:
        shape (n,), in mJ, or in 16-bit MACs for a hardware with relative energies (``hardware.energy_label``).

    Raises:
        UserError: an array has another shape or a value out of range, a layer is of an unknown kind, or there is no
            such dataflow.
    """
    check_dataflow(dataflow)
    population = _population(layers, bits, density, hardware, coded_bits, activation_bits)
    names = DATAFLOWS if dataflow == BEST else (dataflow,)
    energy = np.empty(len(population.bits))
    for rows, block in population.blocks():
        energy[rows] = np.min([_energy_total(block, name) for name in names], axis=0)
    return energy


def energy_breakdown(
    layers: Sequence[LayerShape],
    bits: npt.ArrayLike,
    density: npt.ArrayLike,
    *,
    dataflow: str,
    hardware: Hardware,
    coded_bits: npt.ArrayLike | None = None,
    activation_bits: int | None = None,
) -> EnergyBreakdown:
    """Return the energy of each candidate by layer and by part; arguments as in ``estimate_energy``."""
    check_dataflow(dataflow)
    population = _population(layers, bits, density, hardware, coded_bits, activation_bits)
    if dataflow != BEST:
        return _breakdown(population, dataflow)
    choices = [_breakdown(population, name) for name in DATAFLOWS]
    chosen = np.argmin([choice.total for choice in choices], axis=0)
    rows = np.arange(len(chosen))
    parts = {part: np.stack([getattr(choice, part) for choice in choices])[chosen, rows] for part in PARTS}
    return EnergyBreakdown(**parts, dataflows=tuple(DATAFLOWS[index] for index in chosen), unit=choices[0].unit)


def estimate_cycles(
    layers: Sequence[LayerShape],
    bits: npt.ArrayLike,
    density: npt.ArrayLike,
    *,
    dataflow: str,
    hardware: Hardware,
    coded_bits: npt.ArrayLike | None = None,
    activation_bits: int | None = None,
) -> Array:
    """Return the cycles of one forward pass of one image, shape (n, layers); add up for the network.

    A call takes its MACs over the processing elements in use; a step is skipped when all weights that it touches are
    zero. A memory with a bandwidth bounds this from below by the bits that it moves. Memories work while the array
    does; filling and draining the array is free. ``best`` takes the dataflow of least energy, as ``estimate_energy``.

    Args: as in ``estimate_energy``.

    Raises:
        UserError: as ``estimate_energy``.
    """
    check_dataflow(dataflow)
    population = _population(layers, bits, density, hardware, coded_bits, activation_bits)
    if dataflow != BEST:
        return _cycles(population, dataflow)
    chosen = np.argmin([_energy_total(population, name) for name in DATAFLOWS], axis=0)
    choices = np.stack([_cycles(population, name) for name in DATAFLOWS])
    return choices[chosen, np.arange(len(chosen))]


def cycles_to_ms(cycles: Array, hardware: Hardware) -> Array:
    """Return the milliseconds that some cycles take.

    Raises:
        UserError: the hardware has no clock.
    """
    if hardware.clock_mhz is None:
        raise UserError(f"expected a hardware with clock_mhz for a latency, found none in {hardware.name}")
    return cycles / (hardware.clock_mhz * 1e3)


def estimate_size(layers: Sequence[LayerShape], bits: npt.ArrayLike, density: npt.ArrayLike, *, coding: str) -> Array:
    """Return the size of the weights by the paper's formulas, shape (n,), in KiB of 8192 bits.

    Args:
        layers: the layers of the network; a layer called several times has its weights once.
        bits: bits per weight, integers 1..32, shape (n, layers).
        density: fraction of weights that are not zero, [0, 1], shape (n, layers).
        coding: one of ``CODINGS``.

    Raises:
        UserError: an array has another shape or a value out of range, or the paper has no such coding.
    """
    return estimate_size_bits(layers, bits, density, coding=coding).sum(axis=1) / BITS_PER_KIB


def estimate_size_bits(
    layers: Sequence[LayerShape], bits: npt.ArrayLike, density: npt.ArrayLike, *, coding: str
) -> Array:
    """Return the bits of each layer's weights by the paper's formulas, shape (n, layers); see ``estimate_size``."""
    if coding not in _SIZE_FORMULAS:
        raise UserError(f"expected a coding with a formula in the paper ({', '.join(CODINGS)}), found {coding!r}")
    check_layers(layers)
    checked_bits, checked_density = _checked(layers, bits, density)
    weights = np.array([layer.weights for layer in layers], dtype=np.float64)
    return _SIZE_FORMULAS[coding](weights, checked_bits, checked_density)


def normal_bits(weights: Array, bits: Array, density: Array) -> Array:
    """All weights one after the other, zeros included: N q. Ignores scales and biases. Source: the paper."""
    return np.broadcast_to(weights * bits, np.shape(density))


def csr_bits(weights: Array, bits: Array, density: Array) -> Array:
    """Remaining weights, each with 3 bits for the zeros before it: N p (q + 3). Source: the paper.

    Ignores the filler entries that more than 7 zeros in a row need, so it is short by up to 3x at low densities; also
    scales and biases.
    """
    return weights * density * (bits + 3)


def coo_bits(weights: Array, bits: Array, density: Array) -> Array:
    """Remaining weights, each with its position: N p round(q + log2 N). Source: the paper.

    Ignores that a position needs a whole number of bits, rounded up, and scales and biases.
    """
    return weights * density * np.rint(bits + np.log2(weights))


_SIZE_FORMULAS = {"normal": normal_bits, "csr": csr_bits, "coo": coo_bits}


def _mac_part(population: _Population) -> Array:
    """MACs of remaining weights x the energy of one: M p e(q).

    Ignores idle PEs and zero activations. Source: the paper.
    """
    per_mac = mac_energy(population.hardware.operational_array.mac, population.bits, population.activation_bits)
    return per_mac * population.survival.of(np.ones_like(population.calls.macs)) * population.calls.macs


def _breakdown(population: _Population, dataflow: str) -> EnergyBreakdown:
    hardware, shape = population.hardware, population.bits.shape
    parts: dict[str, Array] = {part: np.zeros(shape) for part in PARTS}
    parts["mac"] += _mac_part(population)
    for flow in population.flows(dataflow):
        part = "dram" if flow.memory is hardware.off_chip else _PART_OF_OPERAND[flow.operand]
        parts[part] += flow.energy
    per_layer = {part: population.calls.per_layer(energy) * hardware.energy_scale for part, energy in parts.items()}
    return EnergyBreakdown(**per_layer, dataflows=(dataflow,) * shape[0], unit=hardware.energy_label)


def _energy_total(population: _Population, dataflow: str) -> Array:
    energy = _mac_part(population)
    for flow in population.flows(dataflow):
        energy += flow.energy
    return energy.sum(axis=1) * population.hardware.energy_scale


def _cycles(population: _Population, dataflow: str) -> Array:
    """MACs / used PEs x the chance that a step has a weight left, or the bits moved / bandwidth where that is more.

    Ignores the filling of the array and memories that wait for each other. Source: ours; dense and without bandwidths
    it is the usual count of steps.
    """
    calls, hardware = population.calls, population.hardware
    use = array_use(calls, dataflow, hardware.operational_array.sizes)
    cycles = population.survival.of(use.weights) * use.steps
    if any(memory.bw_bits_per_cycle is not None for memory in hardware.memories):
        moved: dict[str, Array | float] = {memory.name: 0.0 for memory in hardware.memories}
        for flow in population.flows(dataflow):
            moved[flow.memory.name] = moved[flow.memory.name] + flow.read_bits + flow.written_bits
        for memory in hardware.memories:
            if memory.bw_bits_per_cycle is not None:
                ports = use.used_pes if memory.per_pe else 1.0
                cycles = np.maximum(cycles, moved[memory.name] / (memory.bw_bits_per_cycle * ports))
    return calls.per_layer(np.broadcast_to(cycles, population.bits.shape))


def _population(
    layers: Sequence[LayerShape],
    bits: npt.ArrayLike,
    density: npt.ArrayLike,
    hardware: Hardware,
    coded_bits: npt.ArrayLike | None,
    activation_bits: int | None,
) -> _Population:
    calls = tabulate_calls(layers)
    checked_bits, checked_density = _checked(layers, bits, density)
    checked_coded = None if coded_bits is None else _checked_array("coded_bits", coded_bits, len(layers), 0.0, np.inf)
    if checked_coded is not None and len(checked_coded) != len(checked_bits):
        raise UserError(f"expected coded_bits of {len(checked_bits)} candidates, found {len(checked_coded)}")
    if activation_bits is not None and not 1 <= activation_bits <= UNCOMPRESSED_BITS:
        raise UserError(f"expected activation_bits in 1..{UNCOMPRESSED_BITS}, found {activation_bits}")
    if len(calls.layer) != len(layers):
        checked_bits, checked_density = checked_bits[:, calls.layer], checked_density[:, calls.layer]
        checked_coded = None if checked_coded is None else checked_coded[:, calls.layer]
    return _Population(
        calls=calls,
        bits=checked_bits,
        density=checked_density,
        coded_bits=checked_coded,
        hardware=hardware,
        activation_bits=hardware.precision.I if activation_bits is None else activation_bits,
    )


def _checked(layers: Sequence[LayerShape], bits: npt.ArrayLike, density: npt.ArrayLike) -> tuple[Array, Array]:
    checked_bits = _checked_array("bits", bits, len(layers), 1.0, float(UNCOMPRESSED_BITS))
    if np.any(checked_bits != np.rint(checked_bits)):
        raise UserError("expected whole numbers of bits, found fractions")
    checked_density = _checked_array("density", density, len(layers), 0.0, 1.0)
    if checked_bits.shape != checked_density.shape:
        raise UserError(
            f"expected bits and density of one shape, found {checked_bits.shape} and {checked_density.shape}"
        )
    return checked_bits, checked_density


def _checked_array(name: str, values: npt.ArrayLike, layers: int, low: float, high: float) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != layers:
        raise UserError(f"expected {name} of shape (candidates, {layers}), found {array.shape}")
    if not np.all((array >= low) & (array <= high)) or not np.all(np.isfinite(array)):
        raise UserError(f"expected finite {name} in {low:g}..{high:g}, found {array.min():g}..{array.max():g}")
    return array
