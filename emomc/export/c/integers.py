"""From a program of floats to one whose layers compute with integers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from emomc.compression.activation_grid import ActivationGrid, grid_codes
from emomc.export.c.fixed_point import fixed_point, rescaling
from emomc.export.c.number_types import FLOATS, PASSING, Numbering, NumberTypes, step_of
from emomc.export.c.program import Buffer, Call, Constant, NumberType, Program, Structure, Values

_OUTPUT_TYPES: dict[NumberType, str] = {"u8": "OUTPUT_UINT8", "s8": "OUTPUT_INT8", "s32": "OUTPUT_INT32"}
_LOWEST, _HIGHEST = -(1 << 31), (1 << 31) - 1


def integer_program(program: Program) -> Program:
    """Return a program that gives the scores of another one, with layers that compute with integers.

    Layers take the codes of their inputs in bytes, add products in 32 bits and rescale the sums. Layers whose weights
    are float32, and operations that are not known for integers, stay as they are; what they take is made float32.

    Args:
        program: of floats, with roundings to at most 8 bits before its layers.

    Raises:
        UserError: the sums of a layer might need more than 32 bits.
    """
    return _Rewriting(program, NumberTypes(program)).run()


class _Rewriting:
    """The calls that were rewritten, and where they leave what the program's buffers held."""

    def __init__(self, program: Program, types: NumberTypes) -> None:
        self._program = program
        self._types = types
        self._calls: list[Call] = []
        self._where: dict[Buffer, Values] = {}
        """Buffer of the program -> what holds its numbers now."""
        self._written: dict[Buffer, int] = {}
        """Buffer -> number of the last call that wrote it."""
        self._layers: dict[Buffer, int] = {}
        """Buffer -> number of the layer's call that makes all of it, if its outputs may still be changed there."""
        self._readers = Counter(values.buffer for call in program.calls for values in call.reads)
        self._readers[program.scores.buffer] += 1
        self._converted: dict[Any, Values] = {}

    def run(self) -> Program:
        """Rewrite all calls."""
        program = self._program
        image = self._place(program.image)
        for call in program.calls:
            if call.grid is not None:
                self._round(call, call.grid)
            elif call in self._types.units:
                self._layer(call)
            elif self._numbering(call.output) is FLOATS:
                self._compute_in_floats(call)
            elif not self._fused_clip(call) and not self._fused_sum(call):
                self._rewrite(call)
        scores, numbering = self._place(program.scores), self._numbering(program.scores)
        step = None if numbering is FLOATS else numbering.step
        return Program(tuple(self._calls), image, scores, self._numbering(program.image).grid, step)

    def _numbering(self, values: Values) -> Numbering:
        return self._types[values.buffer]

    def _place(self, values: Values) -> Values:
        """Return where values of the program are now."""
        base = self._where.get(values.buffer)
        if base is None:
            buffer = Buffer(values.buffer.count, self._numbering(values).type)
            base = self._where[values.buffer] = Values(buffer, (buffer.count,))
        return Values(base.buffer, values.shape, base.offset + values.offset)

    def _call(self, function: str, *arguments: Any, **further: Any) -> int:
        """Add a call whose last argument is its output; return its number."""
        return self._add(Call(function, arguments, arguments[-1], **further))

    def _add(self, call: Call) -> int:
        self._calls.append(call)
        self._layers.pop(call.output.buffer, None)
        self._written[call.output.buffer] = len(self._calls) - 1
        return len(self._calls) - 1

    def _round(self, call: Call, grid: ActivationGrid) -> None:
        """Round the inputs of a layer."""
        given, numbering = self._place(cast(Values, call.arguments[0])), self._numbering(call.arguments[0])
        rounded = self._numbering(call.output)
        if numbering == rounded:
            self._where[call.output.buffer] = given
            return
        key = given.buffer, given.offset, given.count, grid
        if key not in self._converted:
            out = Values(Buffer(given.count, rounded.type), given.shape)
            if numbering is FLOATS:
                self._call(f"quantize_{rounded.type}", given, given.count, *call.arguments[2:5], out)
            else:
                factor = fixed_point(np.array([numbering.step / grid.step]))
                numbers = int(factor.multipliers[0]), int(factor.shifts[0]), grid.lowest, grid.highest
                self._call(f"rescale_{rounded.type}", given, given.count, *numbers, out)
            self._converted[key] = out
        self._where[call.output.buffer] = self._converted[key]

    def _layer(self, call: Call) -> None:
        """Add a layer that computes with integers."""
        units, numbering = self._types.units[call], self._numbering(call.output)
        out = self._place(call.output)
        made = out
        if numbering is FLOATS:
            numbering = Numbering("s32", step_of(units.largest))
            made = Values(Buffer(out.count, "s32"), out.shape)
        found = rescaling(units.unit, units.biases, units.sums, numbering.step)
        lowest, highest = (numbering.grid.lowest, numbering.grid.highest) if numbering.grid else (_LOWEST, _HIGHEST)
        fields = {
            "biases": _constant(found.biases, np.int32, omit=True),
            "multipliers": _constant(found.factors.multipliers, np.int32),
            "shifts": _constant(found.factors.shifts, np.uint8),
            "offsets": _constant(found.offsets, np.int64, omit=True),
            "lowest": lowest,
            "highest": highest,
            "type": _OUTPUT_TYPES[numbering.type],
        }
        given, packed, _, *sizes, _ = call.arguments
        codes = self._place(given)
        channels = packed.codes.shape[0]
        sums = Values(Buffer(out.count // channels, "s32"), (out.count // channels,))
        by = Structure("rescaling", tuple(fields.items()))
        name = f"{call.function}_{codes.buffer.type}"
        number = self._call(name, codes, packed, by, *sizes, sums, None, made, scratch=sums)
        if made is out:
            self._layers[out.buffer] = number
        else:
            self._call("dequantize_s32", made, made.count, numbering.step, out, in_place=(made,))

    def _fused_clip(self, call: Call) -> bool:
        """Let the layer before an activation function clip its outputs, if nothing else takes them."""
        if call.function not in ("relu", "clip"):
            return False
        source, numbering = call.arguments[0], self._numbering(call.output)
        given = self._place(source)
        low, high = _limits(call, numbering)
        if call.function == "relu" and numbering.grid is not None and not numbering.grid.signed:
            self._where[call.output.buffer] = Values(given.buffer, call.output.shape, given.offset)
            return True
        number = self._layers.get(given.buffer)
        if number is None or not (source.whole and given.whole) or self._readers[source.buffer] > 1:
            return False
        layer = self._calls[number]
        by = dict(layer.arguments[2].fields)
        by |= {name: min(max(int(by[name]), low), high) for name in ("lowest", "highest")}
        self._replace(number, 2, Structure("rescaling", tuple(by.items())))
        self._where[call.output.buffer] = given
        return True

    def _fused_sum(self, call: Call) -> bool:
        """Let a layer add its outputs to the other term of a sum, if nothing else takes them."""
        if call.function != "combine" or call.arguments[5] != 0:
            return False
        terms = [call.arguments[0], call.arguments[2]]
        if any(not isinstance(one, Values) or one.count != call.output.count for one in terms):
            return False
        places = [self._place(one) for one in terms]
        for own, other in ((0, 1), (1, 0)):
            number = self._layers.get(places[own].buffer)
            whole = terms[own].whole and places[own].whole
            if number is None or not whole or self._readers[terms[own].buffer] > 1:
                continue
            by = dict(self._calls[number].arguments[2].fields)
            free = self._calls[number].arguments[-2] is None and (by["lowest"], by["highest"]) == (_LOWEST, _HIGHEST)
            if free and self._written.get(places[other].buffer, -1) < number:
                self._replace(number, -2, places[other], in_place=(places[other],))
                self._where[call.output.buffer] = places[own]
                return True
        return False

    def _replace(self, number: int, place: int, argument: Any, **further: Any) -> None:
        arguments = list(self._calls[number].arguments)
        arguments[place] = argument
        self._calls[number] = dataclasses.replace(self._calls[number], arguments=tuple(arguments), **further)

    def _rewrite(self, call: Call) -> None:
        """Add a call that does the same with integers."""
        numbering = self._numbering(call.output)
        arguments: list[Any] = [self._place(one) if isinstance(one, Values) else one for one in call.arguments]
        placed = dict(zip(map(id, call.arguments), arguments, strict=True))
        name = call.function
        if name in ("relu", "clip"):
            name = "clip"
            arguments = [arguments[0], arguments[1], *_limits(call, numbering), arguments[-1]]
        elif name == "fill":
            arguments[0] = _rounded(arguments[0], numbering)
        else:
            arguments = [_in_units(one, numbering) if isinstance(one, Constant) else one for one in arguments]
        output = placed[id(call.output)]
        in_place = tuple(placed[id(one)] for one in call.in_place)
        suffix = numbering.type if call.function in PASSING else "s32"
        self._add(Call(f"{name}_{suffix}", tuple(arguments), output, in_place))

    def _compute_in_floats(self, call: Call) -> None:
        """Add a call as it is; what it takes is made float32."""
        new = {id(one): self._as_floats(one) for one in call.reads}
        new[id(call.output)] = self._place(call.output)
        arguments = tuple(new.get(id(one), one) for one in call.arguments)
        in_place = tuple(new[id(one)] for one in call.in_place)
        self._add(Call(call.function, arguments, new[id(call.output)], in_place))

    def _as_floats(self, values: Values) -> Values:
        given, numbering = self._place(values), self._numbering(values)
        if numbering is FLOATS:
            return given
        key = given.buffer, given.offset, given.count
        if key not in self._converted:
            out = Values(Buffer(given.count), (given.count,))
            in_place = (given,) if numbering.type == "s32" else ()
            self._call(f"dequantize_{numbering.type}", given, given.count, numbering.step, out, in_place=in_place)
            self._converted[key] = out
        found = self._converted[key]
        return Values(found.buffer, values.shape, found.offset)


def _limits(call: Call, numbering: Numbering) -> tuple[int, int]:
    """Return the bounds of an activation function as integers."""
    bounds: Sequence[float] = (0.0, float("inf")) if call.function == "relu" else call.arguments[2:4]
    low, high = (_rounded(bound, numbering) for bound in bounds)
    return low, high


def _rounded(number: float, numbering: Numbering) -> int:
    """Return the integer that stands for a number."""
    grid = numbering.grid
    lowest, highest = (grid.lowest, grid.highest) if grid else (_LOWEST, _HIGHEST)
    return int(np.rint(np.clip(float(np.float32(number)) / numbering.step, lowest, highest)))


def _constant(numbers: NDArray[Any], type: Any, *, omit: bool = False) -> Constant | None:
    """Return integers as a constant; None for nothing but zeros, if they may be left out."""
    return None if omit and not numbers.any() else Constant(numbers.astype(type))


def _in_units(one: Constant, numbering: Numbering) -> Constant:
    """Return the integers that stand for numbers."""
    if numbering.grid is not None:
        return Constant(grid_codes(one.numbers, numbering.grid))
    return Constant(np.rint(one.numbers.astype(np.float64) / numbering.step).astype(np.int32))
