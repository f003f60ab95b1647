"""Cycles and milliseconds of a whole population of compressed networks at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.dataflows import Dataflow, dataflows_named
from emomc.hardware.description import Hardware
from emomc.hardware.energy import energy_total
from emomc.hardware.reuse_counts import array_use
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]


def estimate_cycles(workload: Workload, *, dataflow: str, hardware: Hardware) -> Array:
    """Return the cycles of one forward pass of one image, shape (n, layers); add up for the network.

    A call takes its MACs over the processing elements in use; a step is skipped when all weights that it touches are
    zero. A memory with a bandwidth bounds this from below by the bits that it moves. Memories work while the array
    does; filling and draining the array is free.

    Args:
        workload: the candidates.
        dataflow: a name of ``DATAFLOWS``, or ``best``: the one of least energy for each candidate.
        hardware: the accelerator.

    Raises:
        UserError: there is no such dataflow.
    """
    choices = dataflows_named(dataflow)
    spread = CallWorkload.of(workload, hardware)
    if len(choices) == 1:
        return _cycles(spread, choices[0])
    chosen = np.argmin([energy_total(spread, choice) for choice in choices], axis=0)
    cycles = np.stack([_cycles(spread, choice) for choice in choices])
    return cycles[chosen, np.arange(len(chosen))]


def cycles_to_ms(cycles: Array, hardware: Hardware) -> Array:
    """Return the milliseconds that some cycles take.

    Raises:
        UserError: the hardware has no clock.
    """
    if hardware.clock_mhz is None:
        raise UserError(f"expected a hardware with clock_mhz for a latency, found none in {hardware.name}")
    return cycles / (hardware.clock_mhz * 1e3)


def _cycles(spread: CallWorkload, dataflow: Dataflow) -> Array:
    """MACs / used PEs x the chance that a step has a weight left, or the bits moved / bandwidth where that is more.

    Ignores the filling of the array and memories that wait for each other. Source: ours; dense and without bandwidths
    it is the usual count of steps.
    """
    calls, hardware = spread.calls, spread.hardware
    use = array_use(calls, dataflow.unrolled, hardware.operational_array.sizes)
    cycles = spread.access_probability.of(use.weights) * use.steps
    if any(memory.bw_bits_per_cycle is not None for memory in hardware.memories):
        moved: dict[str, Array | float] = {memory.name: 0.0 for memory in hardware.memories}
        for flow in spread.flows(dataflow):
            moved[flow.memory.name] = moved[flow.memory.name] + flow.read_bits + flow.written_bits
        for memory in hardware.memories:
            if memory.bw_bits_per_cycle is not None:
                ports = use.used_pes if memory.per_pe else 1.0
                cycles = np.maximum(cycles, moved[memory.name] / (memory.bw_bits_per_cycle * ports))
    return calls.per_layer(np.broadcast_to(cycles, spread.bits.shape))
