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
_OF_CANDIDATES = ("bits", "density", "coded_bits", "input_bits", "output_bits")


@dataclasses.dataclass(frozen=True)
class CallWorkload:
    """The workload of each layer call on one accelerator: one row per candidate, one column per call."""

    hardware: Hardware
    calls: CallTable
    bits: Array
    density: Array
    coded_bits: Array | None
    input_bits: int | Array
    """Bits of an input: one number, or shape (n, calls)."""
    output_bits: int | Array
    """Bits of a complete output in the outer memories, likewise."""

    @classmethod
    def of(cls, workload: Workload, hardware: Hardware) -> CallWorkload:
        """Expand a workload from layers to layer calls."""
        calls = tabulate_calls(workload.layers)
        input_bits = hardware.precision.I if workload.activation_bits is None else workload.activation_bits
        output_bits = input_bits if workload.output_bits is None else workload.output_bits
        arrays = (workload.bits, workload.density, workload.coded_bits, input_bits, output_bits)
        if len(calls.layer) != len(workload.layers):
            arrays = tuple(array[:, calls.layer] if isinstance(array, np.ndarray) else array for array in arrays)
        return cls(hardware, calls, *arrays)  # type: ignore[arg-type]

    @functools.cached_property
    def access_probability(self) -> AccessProbability:
        """Probability of an access at the candidates' densities."""
        return AccessProbability(self.density)

    def blocks(self) -> Iterator[tuple[slice, CallWorkload]]:
        """Split the candidates into blocks whose intermediate arrays fit in the CPU cache."""
        rows = max(1, _BLOCK_VALUES // self.bits.shape[1])
        for start in range(0, len(self.bits), rows):
            block = slice(start, start + rows)
            arrays = {name: getattr(self, name) for name in _OF_CANDIDATES}
            own = {name: array[block] for name, array in arrays.items() if isinstance(array, np.ndarray)}
            yield block, dataclasses.replace(self, **own)

    def flows(self, dataflow: Dataflow) -> list[Flow]:
        """Return the traffic of each memory under a dataflow, counted as ``hardware.counts`` says."""
        if self.hardware.counts == "paper":
            return paper_flows(
                self.calls,
                dataflow.paper_counts(self.calls),
                self.bits,
                self.access_probability,
                self.hardware.memories[0],
                self.input_bits,
                self.hardware.precision.O,
            )
        return reuse_flows(
            self.calls,
            dataflow.unrolled,
            self.bits,
            self.coded_bits,
            self.access_probability,
            self.hardware,
            {"I": self.input_bits, "O": self.output_bits},
        )
