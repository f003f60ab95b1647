"""Which mapping a layer gets: what is held in the array, and how what does not fit is tiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emomc.hardware.description import Hardware, Target
from emomc.hardware.traffic import Flow

Array = npt.NDArray[np.float64]

ENERGY, LATENCY, PRODUCT = "energy", "latency", "product"
AIMS = (ENERGY, LATENCY, PRODUCT)
"""What a mapping is chosen for: the least energy, the fewest cycles, or the least product of the two."""
TIE = 1e-12
"""Costs that differ by less than this share are the same, so that rounding does not choose."""


def aim_of(objectives: Sequence[str], hardware: Target) -> str:
    """Return what mappings are chosen for in a search for some objectives."""
    if not hardware.has_energy or ("latency" in objectives and "energy" not in objectives):
        return LATENCY
    return PRODUCT if "latency" in objectives else ENERGY


@dataclasses.dataclass(frozen=True, eq=False)
class FlowChoice:
    """Flows of some operands in several ways, and which of them each call of each candidate takes."""

    options: Sequence[list[Flow]]
    """Flows of the same memories and operands in the same order."""
    index: npt.NDArray[np.intp]
    """Position of the option, of a shape that broadcasts to (n, calls)."""

    @functools.cached_property
    def energy(self) -> Array:
        """Energy in the hardware's unit, of a shape that broadcasts to (n, calls)."""
        energies = [flows_energy(flows) for flows in self.options]
        return picked(self.index, energies)

    @functools.cached_property
    def flows(self) -> list[Flow]:
        """The flows that are taken."""
        if len(self.options) == 1:
            return self.options[0]
        return [self._chosen(ways) for ways in zip(*self.options, strict=True)]

    def _chosen(self, ways: Sequence[Flow]) -> Flow:
        if all(way is ways[0] for way in ways):
            return ways[0]
        numbers = ("read_bits", "written_bits", "reads", "writes")
        mixed: dict[str, Any] = {name: picked(self.index, [getattr(way, name) for way in ways]) for name in numbers}
        return dataclasses.replace(ways[0], **mixed)


def picked(index: npt.NDArray[np.intp], options: Sequence[Array | float]) -> Array:
    """Return of each place the option that the index names; some times as fast as ``numpy.choose``.

    Args:
        index: positions of options.
        options: of shapes that broadcast with it.
    """
    first, *others = options
    found = np.asarray(first)
    for position, option in enumerate(others, start=1):
        if option is not first:
            found = np.where(index == position, option, found)
    return found


def flows_energy(flows: Sequence[Flow]) -> Array:
    """Return the energy of some flows together, of a shape that broadcasts to (n, calls)."""
    return sum((np.asarray(flow.energy) for flow in flows), np.zeros((1, 1)))


def only(flows: list[Flow]) -> FlowChoice:
    """Return flows without a choice."""
    return FlowChoice([flows], np.zeros((1, 1), dtype=np.intp))


@dataclasses.dataclass(frozen=True, eq=False)
class Mapping:
    """One way to run every call of every layer: what it moves and how long it computes."""

    hardware: Hardware
    mac_energy: Array
    """Energy of the multiply-accumulates in the hardware's unit, shape (n, calls)."""
    compute: Array
    """Cycles of the array, shape (n, calls)."""
    ports: Array
    """PEs in use, whose own memories have a port each, shape (calls,)."""
    fill: Array
    """Cycles of filling and draining the array, of a shape that broadcasts to (n, calls)."""
    moved: tuple[FlowChoice, ...] = ()
    """What is moved while the array computes."""
    moves: tuple[Flow, ...] = ()
    """What poolings, additions and the like move after the call."""

    @functools.cached_property
    def flows(self) -> list[Flow]:
        """What is moved while the array computes."""
        return [flow for choice in self.moved for flow in choice.flows]

    @functools.cached_property
    def energy(self) -> Array:
        """Energy of each call in the hardware's unit, shape (n, calls)."""
        energy = self.mac_energy + flows_energy(self.moves)
        for choice in self.moved:
            energy = energy + choice.energy
        if self.hardware.energy_per_cycle:
            energy = energy + self.hardware.energy_per_cycle * self.cycles
        return energy

    @functools.cached_property
    def cycles(self) -> Array:
        """Cycles of each call, shape (n, calls).

        The array and the ports of all memories work at the same time; the slowest decides. Filling comes before: the
        operands of the first step pass each port on their way in; and draining after: the outputs of the last. Moves
        come after the call. Memories of unlimited bandwidth take no time. Source: ours; the overlap is that of ZigZag.
        """
        return self._slowest(self.flows, self.compute) + self.fill + self._slowest(self.moves, np.zeros((1, 1)))

    def _slowest(self, flows: Sequence[Flow], cycles: Array) -> Array:
        for memory in self.hardware.memories:
            if memory.bw_bits_per_cycle is not None:
                bandwidth = memory.bw_bits_per_cycle * (self.ports if memory.per_pe else 1.0)
                busy = [flow.port_cycles(bandwidth) for flow in flows if flow.memory is memory]
                cycles = np.maximum(cycles, sum(busy, np.zeros((1, 1))))
        return cycles

    def with_moved(self, choice: FlowChoice) -> Mapping:
        """Return the mapping with more flows."""
        return dataclasses.replace(self, moved=(*self.moved, choice))

    def with_best(self, options: Sequence[list[Flow]], aim: str) -> Mapping:
        """Return the mapping with those of the flows that are best for an aim; of equally good ones the first.

        Args:
            options: flows of the same memories and operands in the same order.
            aim: one of ``AIMS``.
        """
        if len(options) == 1:
            return self.with_moved(only(options[0]))
        if aim == ENERGY and not self.hardware.energy_per_cycle:
            # What is the same in all options does not decide.
            scores = [(energy, energy) for energy in map(flows_energy, options)]
        else:
            scores = [self.with_moved(only(flows)).score(aim) for flows in options]
        return self.with_moved(FlowChoice(options, least_index(scores)))

    def score(self, aim: str) -> tuple[Array, Array]:
        """Return what is to be small, and what decides among equals."""
        if aim == ENERGY:
            return self.energy, self.energy
        return (self.cycles, self.energy) if aim == LATENCY else (self.energy * self.cycles, self.energy)


def least_index(scores: Sequence[tuple[Array, Array]]) -> npt.NDArray[np.intp]:
    """Return the position of the least of some scores; of equal ones that of the least second number, or the first.

    Args:
        scores: pairs of arrays that broadcast to one shape.
    """
    index: npt.NDArray[np.intp] = np.zeros((1, 1), dtype=np.intp)
    least, second = scores[0]
    for position, (score, other) in enumerate(scores[1:], start=1):
        better = score < least * (1 - TIE)
        if other is not score:
            better = better | (score <= least * (1 + TIE)) & (other < second * (1 - TIE))
        if np.any(better):
            index = np.where(better, position, index)
            least = np.where(better, score, least)
            second = np.where(better, other, second)
    return index
