"""A workload on one accelerator, expanded from layers to layer calls."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import CallTable, tabulate_calls
from emomc.hardware.description import Hardware
from emomc.hardware.levels import levels_of
from emomc.hardware.residency import Staying, moved_values, staying, staying_maps
from emomc.hardware.traffic import AccessProbability
from emomc.hardware.widths import Widths, activation_widths
from emomc.hardware.workload import Workload
from emomc.hardware.zero_skipping import Zeros

Array = npt.NDArray[np.float64]

_BLOCK_VALUES = 1 << 16
_ARRAYS = ("bits", "density", "coded_bits", "structured_density", "input_density")


@dataclasses.dataclass(frozen=True)
class CallWorkload:
    """The workload of each layer call on one accelerator: one row per candidate, one column per call."""

    hardware: Hardware
    calls: CallTable
    widths: Widths
    stays: tuple[Staying, ...]
    """What stays in the inner memory of each level of the hardware, or in one further in."""
    moved: tuple[Array, Array]
    """Values that poolings, additions and the like read and make after each call, each of shape (calls,)."""
    bits: Array
    density: Array
    coded_bits: Array | None
    structured_density: Array | None = None
    input_density: Array | None = None

    @classmethod
    def of(cls, workload: Workload, hardware: Hardware) -> CallWorkload:
        """Expand a workload from layers to layer calls."""
        calls = tabulate_calls(workload.layers)
        once = len(calls.layer) == len(workload.layers)
        arrays = {name: getattr(workload, name) for name in _ARRAYS}
        by_call = {name: array if array is None or once else array[:, calls.layer] for name, array in arrays.items()}
        widths = activation_widths(workload, hardware)
        stays, moved = _stays(workload, calls, widths, hardware), moved_values(calls, workload.maps)
        return cls(hardware=hardware, calls=calls, widths=widths, stays=stays, moved=moved, **by_call)

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
            part: dict[str, Any] = {name: None if array is None else array[block] for name, array in arrays.items()}
            yield block, dataclasses.replace(self, widths=self.widths.of(block), **part)


def _stays(workload: Workload, calls: CallTable, widths: Widths, hardware: Hardware) -> tuple[Staying, ...]:
    found, kept = [], None
    for level in levels_of(hardware):
        if workload.maps is not None:
            bits = widths.maps * np.array([one.values for one in workload.maps.maps], dtype=np.float64)
            here = staying_maps(workload.maps, bits, level.room_for_maps)
            kept = here if kept is None else kept | here
        found.append(staying(calls, workload.maps, kept))
    return tuple(found)
