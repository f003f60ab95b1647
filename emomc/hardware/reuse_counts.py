"""Count the accesses of an array of processing elements (PEs), from the data reuse in it.

Modelled: arrays of any size, the halo, stride and dilation of the input map, reuse over time of one operand in the PEs'
own memories, and what filling those costs. Ignored: transfers between PEs, the reuse of a second operand in a PE with
room for many values, and of inputs that neighbouring steps share.

Source: ours, in the terms of Mei et al., "ZigZag: Enlarging Joint Architecture-Mapping Design Space Exploration for
DNN Accelerators", IEEE Transactions on Computers 70(8), 2021, with which it is compared in ``docs/results``; the
factors for zero weights generalise those of the EMOMC paper.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import CallTable
from emomc.hardware.description import Hardware, Memory
from emomc.hardware.traffic import Flow
from emomc.hardware.widths import Widths
from emomc.hardware.zero_skipping import Zeros

Array = npt.NDArray[np.float64]

_DIMENSIONS = ("c", "k", "ox", "oy", "fx", "fy")


@dataclasses.dataclass(frozen=True)
class ArrayUse:
    """How the array executes each layer call; all of shape (calls,), averages where a fold is not full."""

    used_pes: Array
    """PEs used in one step: the product of the unrolled extents."""
    steps: Array
    """Steps of the array without pruning: MACs / used PEs."""
    inputs: Array
    """Distinct inputs that one step reads."""
    weights: Array
    """Distinct weights that one step reads."""
    outputs: Array
    """Distinct outputs that one step updates."""
    input_reuse: Array
    """Steps for which an input can stay in place: the iterations over output channels."""
    weight_reuse: Array
    """The same for a weight: the iterations over output pixels."""
    output_reuse: Array
    """The same for an output: the iterations over input channels and kernel positions."""


def array_use(calls: CallTable, unrolled: tuple[str, str], sizes: tuple[int, int] | None) -> ArrayUse:
    """Unroll the two dimensions of a dataflow over an array.

    A dimension of extent D on P PEs takes ceil(D / P) folds of D / ceil(D / P) PEs each, on average.

    Args:
        calls: the calls of all layers.
        unrolled: names of the two unrolled dimensions, columns of the table.
        sizes: PEs along the first and the second of them; None: as many as the extents.
    """
    extent: dict[str, Array] = {name: getattr(calls, name) for name in _DIMENSIONS}
    used = {name: np.ones_like(calls.c) for name in _DIMENSIONS}
    for axis, name in enumerate(unrolled):
        used[name] = extent[name] if sizes is None else extent[name] / np.ceil(extent[name] / sizes[axis])
    left = {name: extent[name] / used[name] for name in _DIMENSIONS}
    used_pes = used["c"] * used["k"] * used["ox"] * used["oy"] * used["fx"] * used["fy"]
    columns = _touched_inputs(used["ox"], used["fx"], calls.stride_x, calls.dilation_x)
    rows = _touched_inputs(used["oy"], used["fy"], calls.stride_y, calls.dilation_y)
    return ArrayUse(
        used_pes=used_pes,
        steps=calls.macs / used_pes,
        inputs=used["c"] * columns * rows,
        weights=used["c"] * used["k"] * used["fx"] * used["fy"],
        outputs=used["k"] * used["ox"] * used["oy"],
        input_reuse=left["k"],
        weight_reuse=left["ox"] * left["oy"],
        output_reuse=left["c"] * left["fx"] * left["fy"],
    )


def _touched_inputs(outputs: Array, kernel: Array, stride: Array, dilation: Array) -> Array:
    """Return the number of distinct input columns (rows) that some output and kernel columns (rows) use."""
    return np.minimum(outputs * kernel, stride * (outputs - 1) + dilation * (kernel - 1) + 1)


@dataclasses.dataclass(frozen=True)
class ArrayTraffic:
    """What the array takes from and gives to the memories next to it.

    An operand moves: the array takes another value at every step. Or it is held, for as many steps as it can be used
    for, which needs a memory in each PE.
    """

    calls: CallTable
    use: ArrayUse
    hardware: Hardware
    zeros: Zeros
    widths: Widths
    bits: Array
    """Bits per weight, shape (n, calls)."""
    weight_bits: Array
    """Bits of all weights of a call as they lie in the innermost shared memory, shape (n, calls)."""

    @property
    def holdable(self) -> tuple[str, ...]:
        """The operands that a PE has a memory for, one of which is held; of those that cost the same the first one."""
        return tuple(operand for operand in "OWI" if self.hardware.register(operand) is not None)

    def flows(self, operand: str, *, held: bool) -> list[Flow]:
        """Return the traffic of one operand at its innermost shared memory and in the PEs.

        Args:
            operand: I, W or O.
            held: whether it is held.
        """
        reuse = {"I": self.use.input_reuse, "W": self.use.weight_reuse, "O": self.use.output_reuse}[operand]
        steps_held = reuse if held else np.ones_like(reuse)
        count = {"I": self._inputs, "W": self._weights, "O": self._outputs}[operand]
        return count(self.hardware.first_shared(operand), self.hardware.register(operand), steps_held)

    def _inputs(self, shared: Memory, register: Memory | None, held: Array) -> list[Flow]:
        """One read serves used_pes / inputs MACs per step for the steps held; every PE keeps a copy.

        It is skipped if the weights of all these MACs are zero.
        """
        use, width = self.use, self.widths.inputs
        needed = self.zeros.shared(use.used_pes / use.inputs * held)
        flows = [Flow(shared, "I", needed * (use.steps * use.inputs / held) * width, reads=self._transfers(held))]
        if register is not None:
            read = self.zeros.in_pe() * self.calls.macs * width
            flows.append(Flow(register, "I", read, self.zeros.in_pe(held) * (self.calls.macs / held) * width))
        return flows

    def _transfers(self, held: Array) -> Array:
        """Return how often the inputs or outputs of a step change, with a nonzero weight in between."""
        return self.zeros.shared(self.use.used_pes * held) * (self.use.steps / held)

    def _weights(self, shared: Memory, register: Memory | None, held: Array) -> list[Flow]:
        """Coded weights are read as often as uncoded ones would be; a PE's own memory holds them uncoded."""
        use, calls = self.use, self.calls
        bits = self.weight_bits * (use.steps * use.weights / held / calls.weights)
        flows = [Flow(shared, "W", bits, reads=use.steps / held)]
        if register is not None:
            made = self.zeros.in_pe() * (self.bits + register.extra_weight_bits)
            flows.append(Flow(register, "W", made * calls.macs, made * (calls.macs / held)))
        return flows

    def _outputs(self, shared: Memory, register: Memory | None, held: Array) -> list[Flow]:
        """One access sums used_pes / outputs MACs per step over the steps held.

        Every access writes: a complete output with its final width, once, and a partial sum with its own, which is read
        again. An access is skipped if all its weights are zero.
        """
        use, values, widths = self.use, self.calls.output_values, self.widths
        needed = self.zeros.shared(use.used_pes / use.outputs * held)
        accesses = use.steps * use.outputs / held
        sums = needed * (accesses - values) * widths.partial_sums
        transfers = self._transfers(held)
        again = transfers * (1 - values / accesses)
        flows = [Flow(shared, "O", sums, sums + needed * values * widths.outputs, again, transfers)]
        if register is not None:
            summed = self.zeros.in_pe() * self.calls.macs * widths.partial_sums
            left = self.zeros.in_pe(held) * (self.calls.macs / held) * widths.partial_sums
            flows.append(Flow(register, "O", summed + left, summed + left * (1 - values / accesses)))
        return flows
