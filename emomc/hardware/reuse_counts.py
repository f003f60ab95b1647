"""Count memory accesses from the data reuse in an array of processing elements (PEs).

Modelled: arrays of any size, the halo, stride and dilation of the input map, reuse over time of one operand, per-PE
memories, outer memories such as DRAM, grouped and linear layers. Ignored: the fill of a memory from the next outer one,
maps that do not fit in a memory, transfers between PEs, the compression of feature maps, zero activations.

Source: ours, in the terms of Mei et al., "ZigZag: Enlarging Joint Architecture-Mapping Design Space Exploration for
DNN Accelerators", IEEE Transactions on Computers 70(8), 2021, with which it is compared in ``docs/results``; the
factors for zero weights generalise those of the EMOMC paper.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import CallTable
from emomc.hardware.description import OPERANDS, Hardware, Memory
from emomc.hardware.traffic import Flow
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


def reuse_flows(
    calls: CallTable,
    unrolled: tuple[str, str],
    bits: Array,
    coded_bits: Array | None,
    zeros: Zeros,
    hardware: Hardware,
    activation_bits: int,
) -> list[Flow]:
    """Return the traffic of inputs, weights and outputs at each memory.

    Args:
        calls: the calls of all layers.
        unrolled: names of the two unrolled dimensions, columns of the table.
        bits: bits per weight, shape (n, calls).
        coded_bits: bits of the layer's coded weights, shape (n, calls); None: each weight is moved with ``bits`` and
            the extra bits of the memory that it is read from.
        zeros: what the candidates' zeros save.
        hardware: the accelerator.
        activation_bits: bits of an input, and of a complete output.
    """
    use = array_use(calls, unrolled, hardware.operational_array.sizes)
    streams = {
        memory.name: _stream_bits(calls, bits, coded_bits if hardware.holds_codes(memory) else None, memory)
        for memory in hardware.memories
    }
    flows = _first_shared_flows(calls, use, streams, zeros, hardware, activation_bits)
    first_shared = {flow.operand: flow.memory for flow in flows}
    for memory in hardware.memories:
        for operand in memory.operands:
            if memory.per_pe:
                flows.append(_per_pe_flow(calls, memory, operand, bits, zeros, hardware, activation_bits))
            elif memory is not first_shared[operand]:
                flows.append(_one_pass_flow(calls, memory, operand, streams[memory.name], activation_bits))
    return flows


def _stream_bits(calls: CallTable, bits: Array, coded_bits: Array | None, memory: Memory) -> Array:
    return (bits + memory.extra_weight_bits) * calls.weights if coded_bits is None else coded_bits


def _per_pe_flow(
    calls: CallTable,
    memory: Memory,
    operand: str,
    bits: Array,
    zeros: Zeros,
    hardware: Hardware,
    activation_bits: int,
) -> Flow:
    """Each MAC of a nonzero weight reads its input and weight, and reads and writes its partial sum."""
    done = zeros.in_pe() * calls.macs
    if operand == "I":
        return Flow(memory, "I", done * activation_bits)
    if operand == "W":
        return Flow(memory, "W", done * (bits + memory.extra_weight_bits))
    moved = done * hardware.precision.O
    return Flow(memory, "O", moved, moved)


def _one_pass_flow(calls: CallTable, memory: Memory, operand: str, stream_bits: Array, activation_bits: int) -> Flow:
    """An outer memory moves each value once: it reads the input map and the weights, and writes the output map."""
    if operand == "I":
        return Flow(memory, "I", calls.input_values * activation_bits)
    if operand == "W":
        return Flow(memory, "W", stream_bits)
    return Flow(memory, "O", 0.0, calls.output_values * activation_bits)


def _first_shared_flows(
    calls: CallTable,
    use: ArrayUse,
    streams: dict[str, Array],
    zeros: Zeros,
    hardware: Hardware,
    activation_bits: int,
) -> list[Flow]:
    """Return the traffic of the innermost shared memories; the operand that saves the most energy is held in place."""
    shared = {operand: hardware.first_shared(operand) for operand in OPERANDS}
    stream_bits = streams[shared["W"].name]
    once = np.ones_like(calls.macs)
    moving = [
        _input_flow(shared["I"], use, once, zeros, activation_bits),
        _weight_flow(shared["W"], use, once, calls, stream_bits),
        _output_flow(shared["O"], use, once, calls, zeros, hardware.precision.O),
    ]
    held = [
        _input_flow(shared["I"], use, use.input_reuse, zeros, activation_bits),
        _weight_flow(shared["W"], use, use.weight_reuse, calls, stream_bits),
        _output_flow(shared["O"], use, use.output_reuse, calls, zeros, hardware.precision.O),
    ]
    saved = np.broadcast_arrays(*(moves.energy - stays.energy for moves, stays in zip(moving, held, strict=True)))
    # Of those that save the same, outputs come before weights, and weights before inputs.
    best = np.argmax(saved[::-1], axis=0)
    return [
        Flow(
            moves.memory,
            moves.operand,
            np.where(best == rank, stays.read_bits, moves.read_bits),
            np.where(best == rank, stays.written_bits, moves.written_bits),
        )
        for rank, moves, stays in zip((2, 1, 0), moving, held, strict=True)
    ]


def _input_flow(memory: Memory, use: ArrayUse, reuse: Array, zeros: Zeros, activation_bits: int) -> Flow:
    """Return the reads of inputs: one read serves used_pes / inputs MACs per step for ``reuse`` steps.

    It is skipped if the weights of all these MACs are zero.
    """
    needed = zeros.shared(use.used_pes / use.inputs * reuse)
    return Flow(memory, "I", needed * (use.steps * use.inputs / reuse * activation_bits))


def _weight_flow(memory: Memory, use: ArrayUse, reuse: Array, calls: CallTable, stream_bits: Array) -> Flow:
    """Return the reads of weights: coded weights are read as often as uncoded ones would be."""
    return Flow(memory, "W", stream_bits * (use.steps * use.weights / reuse / calls.weights))


def _output_flow(memory: Memory, use: ArrayUse, reuse: Array, calls: CallTable, zeros: Zeros, output_bits: int) -> Flow:
    """Return the accesses of outputs: one access sums used_pes / outputs MACs per step over ``reuse`` steps.

    Each access writes; all but the first of an output also read the partial sum. It is skipped if all its weights are
    zero.
    """
    needed = zeros.shared(use.used_pes / use.outputs * reuse)
    writes = use.steps * use.outputs / reuse
    return Flow(memory, "O", needed * ((writes - calls.output_values) * output_bits), needed * (writes * output_bits))
