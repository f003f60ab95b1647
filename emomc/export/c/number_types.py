"""Which integers the values of a program become: codes of a layer's inputs in bytes, or 32 bits on a finer step.

The search rounds the inputs of layers, and nothing else. A value that only goes into such roundings, to one grid, is
kept as the codes of that grid: to round before an activation function, a maximum or a copy is the same as behind it.
What is added or averaged, and the scores, are not rounded by the search: they have 32 bits. All terms of a sum, and the
sum, have one step, so that the sum is exact; it is the finest at which no image can make any of them overflow.
"""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.c.fixed_point import MOST_SUM
from emomc.export.c.program import Buffer, Call, Constant, NumberType, Program, Values
from emomc.packed_file.network import PackedLayer

LAYERS = ("convolve", "convolve_transposed", "linear")
PASSING = ("clip", "copy", "fill", "pool_adaptive_max", "pool_max", "relu")
"""Functions that give codes of a grid if they take them."""
AVERAGES = ("pool_adaptive", "pool_average", "sum_rows")
"""Functions that add numbers of a tensor, and divide the sums."""
_MOST_VALUE = 1 << 30
"""Largest magnitude of a value of 32 bits; the rest is room for what rounding adds."""


@dataclasses.dataclass(frozen=True)
class Numbering:
    """What the numbers of a buffer stand for."""

    type: NumberType
    step: float = 1.0
    """What one unit is, of integers."""
    grid: ActivationGrid | None = None
    """Of codes in bytes."""


FLOATS = Numbering("f32")


def codes_of(grid: ActivationGrid) -> Numbering:
    """Return the codes of a grid."""
    return Numbering("s8" if grid.signed else "u8", grid.step, grid)


@dataclasses.dataclass(frozen=True)
class LayerUnits:
    """The numbers of one call of a layer that computes with integers."""

    unit: NDArray[np.float64]
    """(output channels,): what 1 in a sum of products of codes is."""
    biases: NDArray[np.float64]
    """(output channels,)."""
    sums: NDArray[np.int64]
    """(output channels,): the largest magnitude of a sum without its bias."""

    @property
    def largest(self) -> float:
        """The largest magnitude of an output."""
        return float((np.abs(self.unit) * self.sums + np.abs(self.biases)).max())


def layer_units(call: Call, grid: ActivationGrid) -> LayerUnits:
    """Return the numbers of a layer's sums.

    Raises:
        UserError: a sum of inputs of the grid might need more than 32 bits.
    """
    layer, bias = cast(PackedLayer, call.arguments[1]), cast("Constant | None", call.arguments[2])
    channels = layer.codes.shape[0]
    sums = np.abs(layer.codes.reshape(channels, -1).astype(np.int64)).sum(1) * grid.highest
    if sums.max() > MOST_SUM:
        raise UserError(
            f"expected sums of 32 bits in integer arithmetic, found {layer.name} with sums up to {sums.max():,}: "
            f"take --c_arithmetic float"
        )
    unit = np.broadcast_to(layer.scale.astype(np.float64) * grid.step, (channels,))
    biases = np.zeros(channels) if bias is None else bias.numbers.astype(np.float64)
    return LayerUnits(unit, biases, sums)


class NumberTypes:
    """The numbers of each buffer of a program of floats, once its layers compute with integers."""

    def __init__(self, program: Program) -> None:
        """Choose them.

        Args:
            program: its layers have inputs of at most 8 bits.

        Raises:
            UserError: a layer's sums might overflow.
        """
        self._program = program
        self.roundings: dict[Buffer, ActivationGrid] = {
            call.output.buffer: call.grid for call in program.calls if call.grid is not None
        }
        """Buffer that a rounding writes -> its grid."""
        self.units: dict[Call, LayerUnits] = {
            call: layer_units(call, self.roundings[_input(call).buffer])
            for call in program.calls
            if self._is_integer_layer(call)
        }
        """Calls of the layers that compute with integers -> their numbers."""
        self._parents: dict[Buffer, Buffer] = {}
        self._numberings = self._choose()

    def __getitem__(self, buffer: Buffer) -> Numbering:
        """Return what a buffer's numbers are."""
        return self._numberings[self._class(buffer)]

    def _is_integer_layer(self, call: Call) -> bool:
        grid = self.roundings.get(_input(call).buffer) if call.function in LAYERS else None
        return grid is not None and call.arguments[1].bits != UNCOMPRESSED_BITS

    def _choose(self) -> dict[Buffer, Numbering]:
        """Join the buffers that must have the same numbers, and return those of each class."""
        program = self._program
        floats, words = set(), {program.scores.buffer}
        buffers = [program.image.buffer]
        for call in program.calls:
            own = [values.buffer for values in (*call.reads, call.output)]
            buffers += own
            if call.grid is not None or call in self.units:
                continue
            if _is_sum(call):
                words.update(own)
            if call.function in PASSING or _is_sum(call):
                self._join(own)
            else:
                floats.add(call.output.buffer)
                # What computes in floats takes everything in them.
                words.update(own[:-1])
        wanted: dict[Buffer, set[ActivationGrid]] = {}
        for call in program.calls:
            if call.grid is not None:
                wanted.setdefault(self._class(_input(call).buffer), set()).add(call.grid)
        floats, words = {self._class(one) for one in floats}, {self._class(one) for one in words}
        image, bounds = self._class(program.image.buffer), self._bounds()
        members: dict[Buffer, list[Buffer]] = {}
        for buffer in dict.fromkeys(buffers):
            members.setdefault(self._class(buffer), []).append(buffer)
        found = {}
        for one, those in members.items():
            grids = wanted.get(one, set())
            in_bytes = one not in words and len(grids) == 1
            if one in self.roundings:
                found[one] = codes_of(self.roundings[one])
            elif one in floats or (one is image and not in_bytes):
                found[one] = FLOATS
            elif in_bytes:
                found[one] = codes_of(next(iter(grids)))
            else:
                found[one] = Numbering("s32", step_of(max(bounds[buffer] for buffer in those)))
        return found

    def _bounds(self) -> dict[Buffer, float]:
        """Return the largest magnitude of each buffer's values; infinite where it is not known."""
        found = {self._program.image.buffer: math.inf}
        for call in self._program.calls:
            reads = [found[values.buffer] for values in call.reads]
            reads += [float(np.abs(one.numbers).max()) for one in call.arguments if isinstance(one, Constant)]
            bound = math.inf
            if call.grid is not None:
                bound = call.grid.highest * call.grid.step
            elif call in self.units:
                bound = self.units[call].largest
            elif call.function == "fill":
                bound = abs(call.arguments[0])
            elif call.function == "clip":
                bound = min(reads[0], max(abs(limit) for limit in call.arguments[2:4]))
            elif call.function in PASSING:
                bound = reads[0]
            elif _is_sum(call):
                bound = sum(reads)
                if call.function == "pool_average" and call.arguments[3] > 0:
                    window = dict(call.arguments[2].fields)
                    bound *= max(1.0, window["kernel_y"] * window["kernel_x"] / call.arguments[3])
                elif call.function == "sum_rows":
                    bound *= call.arguments[2] / call.arguments[3]
            buffer = call.output.buffer
            found[buffer] = max(bound, found.get(buffer, 0.0))
        return found

    def _class(self, buffer: Buffer) -> Buffer:
        while (parent := self._parents.get(buffer, buffer)) is not buffer:
            buffer = parent
        return buffer

    def _join(self, buffers: list[Buffer]) -> None:
        first = self._class(buffers[0])
        for other in buffers[1:]:
            if (root := self._class(other)) is not first:
                self._parents[root] = first


def step_of(largest: float) -> float:
    """Return the step of values of 32 bits up to a magnitude."""
    return largest / _MOST_VALUE or 1.0


def _input(call: Call) -> Values:
    return cast(Values, call.arguments[0])


def _is_sum(call: Call) -> bool:
    """Whether a call adds, subtracts or averages."""
    return call.function in AVERAGES or (call.function == "combine" and call.arguments[5] in (0, 1))
