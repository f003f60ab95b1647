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
from emomc.hardware.zero_skipping import Zeros

Array = npt.NDArray[np.float64]

_BLOCK_VALUES = 1 << 14
_ARRAYS = ("bits", "density", "coded_bits", "structured_density", "input_density")


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
    structured_density: Array | None = None
    input_density: Array | None = None

    @classmethod
    def of(cls, workload: Workload, hardware: Hardware) -> CallWorkload:
        """Expand a workload from layers to layer calls."""
        calls = tabulate_calls(workload.layers)
        activation_bits = hardware.precision.I if workload.activation_bits is None else workload.activation_bits
        once = len(calls.layer) == len(workload.layers)
        arrays = {name: getattr(workload, name) for name in _ARRAYS}
        by_call = {name: array if array is None or once else array[:, calls.layer] for name, array in arrays.items()}
        return cls(hardware=hardware, calls=calls, activation_bits=activation_bits, **by_call)

    @functools.cached_property
    def access_probability(self) -> AccessProbability:
        """Probability of an access at the candidates' densities."""
        return AccessProbability(self.density)

    @functools.cached_property
    def zeros(self) -> Zeros:
        """What the zeros save on the accelerator."""
        skipping = self.hardware.zero_skipping
        inputs = np.ones((1, 1)) if self.input_density is None else self.input_density
        structured = skipping.structured_share(self.structured_density)
        return Zeros(skipping, self.access_probability, AccessProbability(inputs), structured)

    def blocks(self) -> Iterator[tuple[slice, CallWorkload]]:
        """Split the candidates into blocks whose intermediate arrays fit in the CPU cache."""
        rows = max(1, _BLOCK_VALUES // self.bits.shape[1])
        for start in range(0, len(self.bits), rows):
            block = slice(start, start + rows)
            arrays = {name: getattr(self, name) for name in _ARRAYS}
            part = {name: None if array is None else array[block] for name, array in arrays.items()}
            yield block, dataclasses.replace(self, **part)

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
            self.zeros,
            self.hardware,
            self.activation_bits,
        )
