"""Map the calls of all layers to an accelerator with memories of finite size (``counts: reuse``)."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.description import OPERANDS, Memory
from emomc.hardware.levels import Level, levels_of
from emomc.hardware.mapping import ENERGY, LATENCY, Mapping, flows_energy, least_index, only, picked
from emomc.hardware.residency import Staying
from emomc.hardware.reuse_counts import ArrayTraffic, ArrayUse
from emomc.hardware.tiling import Loads, Passes, open_calls, tilings
from emomc.hardware.traffic import Flow

Array = npt.NDArray[np.float64]


def map_layers(work: CallWorkload, use: ArrayUse, mapping: Mapping, aim: str) -> Mapping:
    """Return a mapping with the flows that are best for an aim.

    The tiling of each level is chosen first, by what the level itself costs; then what the array holds, by what the
    whole call costs.

    Args:
        work: the candidates.
        use: how the array executes each call.
        mapping: without flows.
        aim: one of ``AIMS``.
    """
    for level, stays in zip(levels_of(work.hardware), work.stays, strict=True):
        mapping = mapping.with_moved(only(_level_flows(work, level, stays, aim)))
    mapping = dataclasses.replace(mapping, moves=tuple(_moves(work)))
    stored = weight_bits(work, work.hardware.first_shared("W"))
    traffic = ArrayTraffic(work.calls, use, work.hardware, work.zeros, work.widths, work.bits, stored)
    moving = {operand: traffic.flows(operand, held=False) for operand in OPERANDS}
    options = []
    for held in traffic.holdable or (None,):
        flows = moving if held is None else {**moving, held: traffic.flows(held, held=True)}
        options.append([flow for operand in OPERANDS for flow in flows[operand]])
    return mapping.with_best(options, aim)


def fill_cycles(work: CallWorkload, use: ArrayUse) -> Array:
    """Return the cycles in which the first operands reach the array and the last outputs leave it, shape (n, calls).

    What one step uses passes the port of each shared memory on its way, one after the other.
    """
    bits = {"I": use.inputs * work.widths.inputs, "W": use.weights * work.bits, "O": use.outputs * work.widths.outputs}
    cycles = np.zeros((1, 1))
    for memory in work.hardware.memories:
        if memory.bw_bits_per_cycle is not None and not memory.per_pe:
            for operand in memory.operands:
                cycles = cycles + bits[operand] / memory.bw_bits_per_cycle
    return cycles


def weight_bits(work: CallWorkload, memory: Memory) -> Array:
    """Return the bits of all weights of a call as they lie in a memory, shape (n, calls)."""
    if work.coded_bits is not None and work.hardware.holds_codes(memory):
        return work.coded_bits
    return (work.bits + memory.extra_weight_bits) * work.calls.weights


def _level_flows(work: CallWorkload, level: Level, stays: Staying, aim: str) -> list[Flow]:
    """Return what passes between the memories of a level, in the tiling that costs least there."""
    calls, widths = work.calls, work.widths
    flows = []
    once: dict[str, tuple[Array, Array]] = {}
    if "I" in level.inner:
        entering = np.where(stays.inputs, 0.0, calls.input_values * widths.inputs)
        once["I"] = (entering, entering)
    if "W" in level.inner:
        # Of a product, the second map may stay; other weights come for every image.
        share = np.where(stays.weights, 0.0, 1.0)
        read, written = weight_bits(work, level.outer["W"]), weight_bits(work, level.inner["W"])
        once["W"] = (read * share, written * share)
    passes = _best_passes(work, level, once, aim)
    for operand, (read, written) in once.items():
        times = passes.inputs if operand == "I" else passes.weights
        flows.append(Flow(level.outer[operand], operand, read * times))
        flows.append(Flow(level.inner[operand], operand, 0.0, written * times))
    if "O" in level.inner:
        leaving = np.where(stays.outputs, 0.0, calls.output_values * widths.outputs)
        flows += [Flow(level.inner["O"], "O", leaving), Flow(level.outer["O"], "O", 0.0, leaving)]
    return flows


def _best_passes(work: CallWorkload, level: Level, once: dict[str, tuple[Array, Array]], aim: str) -> Passes:
    """Return how often inputs and weights pass into the memories of a level, in the tiling that costs least there.

    Args:
        work: the candidates.
        level: where they pass. Operands that do not travel there take no room.
        once: operand -> bits read from the outer and written to the inner memory in one pass.
        aim: energy, or bits over bandwidth (bits, where no bandwidth is known), or their product.
    """
    calls, shape = work.calls, work.bits.shape
    bits = {
        "I": calls.input_values * work.widths.inputs,
        "W": weight_bits(work, level.inner["W"]) if "W" in level.inner else np.zeros(shape),
        "O": calls.output_values * work.widths.partial_sums,
    }
    room = [level.room(operand) if operand in level.inner else np.inf for operand in OPERANDS]
    inputs, weights, sums = (bits[operand] / calls.groups for operand in OPERANDS)
    loads = Loads(inputs, weights, sums, calls.output_pixels, calls.k)
    rows = open_calls(loads, *room)
    if not np.any(rows):
        return Passes(np.ones((1, 1)), np.ones((1, 1)))
    passes = Passes(np.ones(shape), np.ones(shape))
    found = tilings(loads.of(rows), *room)
    costs = {
        operand: _pass_costs(level, operand, *(array[..., rows] for array in pair)) for operand, pair in once.items()
    }
    index = least_index([_score(one, costs, aim) for one in found])
    passes.inputs[:, rows] = picked(index, [one.inputs for one in found])
    passes.weights[:, rows] = picked(index, [one.weights for one in found])
    return passes


def _pass_costs(level: Level, operand: str, read: Array, written: Array) -> dict[str, Array]:
    """Return what one pass costs: its energy, under the empty name, and its cycles at the port of each memory."""
    outer, inner = level.outer[operand], level.inner[operand]
    flows = Flow(outer, operand, read), Flow(inner, operand, 0.0, written)
    memories = [memory for memory in (*level.inner.values(), *level.outer.values()) if memory.bw_bits_per_cycle]
    # Without any bandwidth, fewer bits are as good as fewer cycles.
    costs = {flow.memory.name: flow.port_cycles(flow.memory.bw_bits_per_cycle or np.inf) for flow in flows}
    if not memories:
        costs = {flow.memory.name: flow.port_cycles(1.0) for flow in flows}
    return {"": flows_energy(flows), **costs}


def _score(passes: Passes, costs: dict[str, dict[str, Array]], aim: str) -> tuple[Array, Array]:
    """Return what the passes of a tiling cost, and what decides among equals."""
    times = {"I": passes.inputs, "W": passes.weights}
    totals: dict[str, Array] = {}
    for operand, found in costs.items():
        for name, cost in found.items():
            totals[name] = totals.get(name, np.zeros(1)) + times[operand] * cost
    energy = totals.pop("", np.zeros(1))
    if aim == ENERGY:
        return energy, energy
    cycles = functools.reduce(np.maximum, totals.values(), np.zeros(1))
    return (cycles, energy) if aim == LATENCY else (cycles * energy, energy)


def _moves(work: CallWorkload) -> list[Flow]:
    """Return what poolings, additions and the like move: they read and write maps next to the array."""
    width_in, width_out = work.widths.inputs, work.widths.outputs
    read, made = work.moved
    if not np.any(read):
        return []
    found = [
        Flow(work.hardware.first_shared("I"), "I", read * width_in),
        Flow(work.hardware.first_shared("O"), "O", 0.0, made * width_out),
    ]
    for level, stays in zip(levels_of(work.hardware), work.stays, strict=True):
        if "I" in level.inner:
            fetched = stays.moves_fetch * width_in
            found += [Flow(level.outer["I"], "I", fetched), Flow(level.inner["I"], "I", 0.0, fetched)]
        if "O" in level.inner:
            sent = stays.moves_send * width_out
            found += [Flow(level.inner["O"], "O", sent), Flow(level.outer["O"], "O", 0.0, sent)]
    return found
