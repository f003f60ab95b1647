"""How wide the feature maps are: the one place that reads the precision of inputs and outputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import tabulate_calls
from emomc.hardware.description import Hardware
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Widths:
    """Bits of a value of a feature map; of shapes that broadcast to (n, calls)."""

    inputs: Array | float
    """Of an input."""
    outputs: Array | float
    """Of a complete output: as wide as the input of the layer that reads it."""
    partial_sums: Array | float
    """Of an output that is not complete."""
    maps: Array | float
    """Of the values of each map, shape (maps,) or one for all."""

    def of(self, rows: slice) -> Widths:
        """Return the widths of some candidates."""
        own = {name: value[rows] for name in ("inputs", "outputs") if np.ndim(value := getattr(self, name)) == 2}
        return dataclasses.replace(self, **own)


def activation_widths(workload: Workload, hardware: Hardware) -> Widths:
    """Return the widths of a workload's maps on an accelerator."""
    width = float(hardware.precision.I if workload.activation_bits is None else workload.activation_bits)
    inputs, outputs = (
        width if bits is None else bits[:, tabulate_calls(workload.layers).layer]
        for bits in (workload.input_bits, workload.output_bits)
    )
    return Widths(inputs, outputs, float(hardware.precision.O), width)
