"""Run a workload under a dataflow, or under the best of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.dataflows import BEST_PER_LAYER, Dataflow, dataflows_named
from emomc.hardware.mapping import AIMS, ENERGY, LATENCY, TIE, Mapping, only
from emomc.hardware.paper_counts import paper_flows
from emomc.hardware.reuse_counts import array_use
from emomc.hardware.reuse_mapping import fill_cycles, map_layers

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Choice:
    """The mappings of a workload under some dataflows, and which of them each layer of each candidate has."""

    work: CallWorkload
    dataflows: Sequence[Dataflow]
    mappings: Sequence[Mapping]
    """One of each dataflow."""
    index: npt.NDArray[np.intp]
    """Position of the dataflow, shape (n, layers), or (n, 1) where all layers have the same."""

    def per_layer(self, values: Sequence[Array]) -> Array:
        """Return what each layer of each candidate has.

        Args:
            values: of each dataflow, of shapes that broadcast to (n, calls).

        Returns:
            Shape (n, layers).
        """
        sums = [_per_layer(self.work, value) for value in values]
        if len(sums) == 1:
            return sums[0]
        index = np.broadcast_to(self.index, sums[0].shape)
        return np.take_along_axis(np.stack(sums), index[None], axis=0)[0]


def choose(work: CallWorkload, dataflow: str, aim: str = ENERGY) -> Choice:
    """Map a workload to its accelerator.

    Args:
        work: the candidates.
        dataflow: a name of ``DATAFLOW_CHOICES``.
        aim: what mappings and dataflows are chosen for, one of ``AIMS``.

    Raises:
        UserError: there is no such dataflow or aim.
    """
    if aim not in AIMS:
        raise UserError(f"expected an aim among {', '.join(AIMS)}, found {aim!r}")
    dataflows = dataflows_named(dataflow)
    mappings = [map_dataflow(work, one, aim) for one in dataflows]
    if len(dataflows) == 1:
        return Choice(work, dataflows, mappings, np.zeros((len(work.bits), 1), dtype=np.intp))
    costs = {ENERGY: [_per_layer(work, one.energy) for one in mappings]}
    if aim != ENERGY:
        costs[LATENCY] = [_per_layer(work, one.cycles) for one in mappings]
    if dataflow != BEST_PER_LAYER:
        costs = {name: [value.sum(axis=1, keepdims=True) for value in values] for name, values in costs.items()}
    energy = np.stack(costs[ENERGY])
    score = energy if aim == ENERGY else np.stack(costs[LATENCY]) * (energy if aim != LATENCY else 1.0)
    # Of those that are equally good the one of least energy, and of those the first.
    tied = np.where(score <= score.min(axis=0) * (1 + TIE), energy, np.inf)
    return Choice(work, dataflows, mappings, np.argmax(tied <= tied.min(axis=0) * (1 + TIE), axis=0))


def map_dataflow(work: CallWorkload, dataflow: Dataflow, aim: str) -> Mapping:
    """Return the mapping of every call under one dataflow, counted as ``hardware.counts`` says.

    The array takes MACs / used PEs steps; one without a nonzero weight is skipped where the hardware can.
    """
    hardware, calls = work.hardware, work.calls
    array = hardware.operational_array
    use = array_use(calls, dataflow.unrolled, array.sizes)
    compute = work.zeros.steps(use.weights, use.inputs) * (use.steps * array.step_cycles(work.bits, work.widths.inputs))
    mapping = Mapping(hardware, _mac_energy(work), np.atleast_2d(compute), use.used_pes, np.zeros((1, 1)))
    if hardware.counts != "paper":
        return map_layers(work, use, dataclasses.replace(mapping, fill=fill_cycles(work, use)), aim)
    counts = dataflow.paper_counts(calls)
    probability = work.access_probability
    flows = paper_flows(
        calls, counts, work.bits, probability, hardware.memories[0], work.widths.inputs, work.widths.partial_sums
    )
    return mapping.with_moved(only(flows))


def _mac_energy(work: CallWorkload) -> Array:
    """Return the MACs that are made x the energy of one: M p e(q). Ignores idle PEs. Source: the paper."""
    mac = work.hardware.operational_array.mac
    if mac is None:
        return np.zeros((1, 1))
    return mac.energy(work.bits, work.widths.inputs) * work.zeros.in_pe() * work.calls.macs


def _per_layer(work: CallWorkload, values: Array) -> Array:
    return work.calls.per_layer(np.broadcast_to(values, work.bits.shape))
