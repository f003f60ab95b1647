"""Count memory accesses by the formulas of the EMOMC paper.

Source: Wang et al., "Evolutionary Multi-Objective Model Compression for Deep Neural Networks", IEEE Computational
Intelligence Magazine 16(3), 2021, and its published code. Each function counts the accesses of 16-bit words in one call
of a layer on one image, with the two dimensions of the dataflow fully unrolled. Not counted: halo, stride and dilation
of the input map, reuse over time, DRAM, finite arrays, biases, normalisation and pooling.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import CallTable
from emomc.hardware.description import Memory
from emomc.hardware.traffic import AccessProbability, Flow

Array = npt.NDArray[np.float64]

_ALWAYS = np.inf
_CERTAIN_GROUP = 24
"""Under IC|OC, an access that serves more channels than this is never skipped."""


@dataclasses.dataclass(frozen=True)
class PaperCounts:
    """Accesses without pruning, and their groups; (calls,) each.

    A group is the number of weights that one access serves; the access is skipped if all of them are zero."""

    weight_reads: Array
    input_reads: Array
    input_group: Array
    output_writes: Array
    partial_sum_reads: Array
    output_group: Array
    """Group of the output writes and of the partial-sum reads."""


def count_xy(calls: CallTable) -> PaperCounts:
    """X|Y: each weight is broadcast once; an input is read per nonzero weight; outputs stay until complete."""
    once = np.ones_like(calls.macs)
    writes = calls.macs / (calls.fx * calls.fy * calls.c)
    return PaperCounts(calls.macs / calls.output_pixels, calls.macs, once, writes, *_stays(calls))


def count_icoc(calls: CallTable) -> PaperCounts:
    """IC|OC: a weight is read per MAC; an input serves all output channels; an output sums over all input channels."""
    writes = calls.macs / calls.c
    return PaperCounts(
        weight_reads=calls.macs,
        input_reads=calls.macs / calls.k,
        input_group=np.where(calls.k > _CERTAIN_GROUP, _ALWAYS, calls.k),
        output_writes=writes,
        partial_sum_reads=writes,
        output_group=np.where(calls.c > _CERTAIN_GROUP, _ALWAYS, calls.c),
    )


def count_fxfy(calls: CallTable) -> PaperCounts:
    """Fx|Fy: each weight is read once; an input is read per nonzero weight; an output sums over one kernel."""
    kernel = calls.fx * calls.fy
    writes = calls.macs / kernel
    once = np.ones_like(calls.macs)
    return PaperCounts(calls.macs / calls.output_pixels, calls.macs, once, writes, writes, kernel)


def count_xfx(calls: CallTable) -> PaperCounts:
    """X|Fx: a weight is read per output row; an input read serves, and an output sums over, one kernel row.

    The paper uses the kernel's height as its width, and the square root of the output pixels as the row length.
    """
    per_row = calls.macs / calls.fy
    return PaperCounts(calls.macs / np.sqrt(calls.output_pixels), per_row, calls.fy, per_row, per_row, calls.fy)


def count_linear(calls: CallTable) -> PaperCounts:
    """Linear layers under every dataflow: outputs stay until complete; each MAC reads its weight and its input."""
    once = np.ones_like(calls.macs)
    return PaperCounts(calls.macs, calls.macs, once, calls.output_values, *_stays(calls))


def _stays(calls: CallTable) -> tuple[Array, Array]:
    """Return the partial-sum reads and the output group where outputs stay until complete."""
    return np.zeros_like(calls.macs), np.full_like(calls.macs, _ALWAYS)


def paper_flows(
    calls: CallTable,
    convolution: PaperCounts,
    bits: Array,
    probability: AccessProbability,
    memory: Memory,
    input_bits: float | Array,
    output_bits: float | Array,
) -> list[Flow]:
    """Return the traffic of inputs, weights and outputs at the single memory of the paper's model.

    Args:
        calls: the calls of all layers.
        convolution: counts of all calls as convolutions; linear layers use their own formula instead.
        bits: bits per weight, shape (n, calls).
        probability: probability of an access at the candidates' densities, shape (n, calls).
        memory: the buffer; its extra weight bits are moved with each weight, zero or not.
        input_bits: bits of an input, of a shape that broadcasts to (n, calls).
        output_bits: bits of an output and of a partial sum, likewise.
    """
    linear = count_linear(calls)
    counts = PaperCounts(
        *(
            np.where(calls.linear, getattr(linear, field.name), getattr(convolution, field.name))
            for field in dataclasses.fields(PaperCounts)
        )
    )
    outputs = probability.of(counts.output_group) * output_bits
    return [
        Flow(memory, "I", probability.of(counts.input_group) * (counts.input_reads * input_bits)),
        Flow(memory, "W", (bits + memory.extra_weight_bits) * counts.weight_reads),
        Flow(memory, "O", outputs * counts.partial_sum_reads, outputs * counts.output_writes),
    ]
