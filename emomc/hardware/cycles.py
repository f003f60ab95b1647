"""Estimate the cycles and milliseconds of a population of compressed networks."""

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
    """Return the cycles of each layer for one image, shape (n, layers); their sum is the network's.

    A layer call takes MACs / used processing elements steps of one cycle. A step whose weights are all zero is skipped.
    A call takes at least the bits moved / bandwidth of each memory with a known bandwidth. Computation and transfers
    overlap fully; filling and draining the array takes no cycles. What an array holds in place is chosen by energy, so
    where that choice changes, a candidate with more bits may take fewer cycles.

    Args:
        workload: the candidates.
        dataflow: a name of ``DATAFLOWS``, or ``best``: for each candidate the one with the least energy.
        hardware: the accelerator.

    Raises:
        UserError: there is no such dataflow.
    """
    choices = dataflows_named(dataflow)
    expanded = CallWorkload.of(workload, hardware)
    if len(choices) == 1:
        return _cycles(expanded, choices[0])
    chosen = np.argmin([energy_total(expanded, choice) for choice in choices], axis=0)
    cycles = np.stack([_cycles(expanded, choice) for choice in choices])
    return cycles[chosen, np.arange(len(chosen))]


def cycles_to_ms(cycles: Array, hardware: Hardware) -> Array:
    """Convert cycles to milliseconds.

    Raises:
        UserError: the hardware has no ``clock_mhz``.
    """
    if hardware.clock_mhz is None:
        raise UserError(f"expected a hardware with clock_mhz for a latency, found none in {hardware.name}")
    return cycles / (hardware.clock_mhz * 1e3)


def _cycles(expanded: CallWorkload, dataflow: Dataflow) -> Array:
    """Return the larger of steps x probability that a step has a nonzero weight, and bits moved / bandwidth.

    Ignores the filling of the array and waiting between memories. Source: ours; for a dense network and unknown
    bandwidths it is the usual count of steps.
    """
    calls, hardware = expanded.calls, expanded.hardware
    use = array_use(calls, dataflow.unrolled, hardware.operational_array.sizes)
    per_step = hardware.operational_array.cycles_per_step
    cycles = expanded.zeros.steps(use.weights, use.inputs) * (use.steps * per_step)
    if any(memory.bw_bits_per_cycle is not None for memory in hardware.memories):
        moved: dict[str, Array | float] = {memory.name: 0.0 for memory in hardware.memories}
        for flow in expanded.flows(dataflow):
            moved[flow.memory.name] = moved[flow.memory.name] + flow.read_bits + flow.written_bits
        for memory in hardware.memories:
            if memory.bw_bits_per_cycle is not None:
                ports = use.used_pes if memory.per_pe else 1.0
                cycles = np.maximum(cycles, moved[memory.name] / (memory.bw_bits_per_cycle * ports))
    return calls.per_layer(np.broadcast_to(cycles, expanded.bits.shape))
