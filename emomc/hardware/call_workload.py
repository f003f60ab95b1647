"""A workload on one accelerator, expanded from layers to layer calls."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import CallTable, tabulate_calls
from emomc.hardware.dataflows import Dataflow
from emomc.hardware.description import Hardware
from emomc.hardware.paper_counts import paper_flows
from emomc.hardware.reuse_counts import reuse_flows
from emomc.hardware.traffic import AccessProbability, Flow
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]

_BLOCK_VALUES = 1 << 14


@dataclasses.dataclass(frozen=True)
class CallWorkload:
    """The workload of each layer call on one accelerator: one row per candidate, one column per call."""

    hardware: Hardware
    calls: CallTable
    bits: Array
    density: Array
    coded_bits: Array | None
    activation_bits: int
    """Bits of an input activation."""

    @classmethod
    def of(cls, workload: Workload, hardware: Hardware) -> CallWorkload:
        """Expand a workload from layers to layer calls."""
        calls = tabulate_calls(workload.layers)
        activation_bits = hardware.precision.I if workload.activation_bits is None else workload.activation_bits
        arrays = (workload.bits, workload.density, workload.coded_bits)
        if len(calls.layer) != len(workload.layers):
            bits, density, coded_bits = (None if array is None else array[:, calls.layer] for array in arrays)
        else:
            bits, density, coded_bits = arrays
        return cls(hardware, calls, bits, density, coded_bits, activation_bits)  # type: ignore[arg-type]

    @functools.cached_property
    def access_probability(self) -> AccessProbability:
        """Probability of an access at the candidates' densities."""
        return AccessProbability(self.density)

    def blocks(self) -> Iterator[tuple[slice, CallWorkload]]:
        """Split the candidates into blocks whose intermediate arrays fit in the CPU cache."""
        rows = max(1, _BLOCK_VALUES // self.bits.shape[1])
        for start in range(0, len(self.bits), rows):
            block = slice(start, start + rows)
            coded_bits = None if self.coded_bits is None else self.coded_bits[block]
            yield (
                block,
                dataclasses.replace(self, bits=self.bits[block], density=self.density[block], coded_bits=coded_bits),
            )

    def flows(self, dataflow: Dataflow) -> list[Flow]:
        """Return the traffic of each memory under a dataflow, counted as ``hardware.counts`` says."""
        if self.hardware.counts == "paper":
            return paper_flows(
                self.calls,
                dataflow.paper_counts(self.calls),
                self.bits,
                self.access_probability,
                self.hardware.memories[0],
                dataclasses.replace(self.hardware.precision, I=self.activation_bits),
            )
        return reuse_flows(
            self.calls,
            dataflow.unrolled,
            self.bits,
            self.coded_bits,
            self.access_probability,
            self.hardware,
            self.activation_bits,
        )
