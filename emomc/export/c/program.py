"""The program that a network becomes: calls of C functions on buffers of numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emomc.compression.activation_grid import ActivationGrid
from emomc.export.c.arithmetic import Arithmetic
from emomc.packed_file.network import PackedLayer, PackedNetwork

NumberType = Literal["f32", "s32", "u8", "s8"]
"""Type of the numbers of a buffer: float32, or integers with and without sign."""

C_TYPES: Mapping[NumberType, str] = {"f32": "float", "s32": "int32_t", "u8": "uint8_t", "s8": "int8_t"}
"""Type of numbers -> its name in C."""


@dataclasses.dataclass(frozen=True, eq=False)
class Buffer:
    """Memory for one image's values between two calls."""

    count: int
    """Numbers."""
    type: NumberType = "f32"

    @property
    def bytes(self) -> int:
        """Bytes of all its numbers."""
        return self.count * (4 if self.type in ("f32", "s32") else 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Values:
    """A tensor of the graph: row-major, in a buffer or a part of it."""

    buffer: Buffer
    shape: tuple[int, ...]
    """For one image; the first dimension may be its batch of 1."""
    offset: int = 0
    """Where it begins in the buffer, numbers."""

    @property
    def count(self) -> int:
        """Numbers."""
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether it is all of its buffer."""
        return self.offset == 0 and self.count == self.buffer.count


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """Numbers that stay in flash: float32, int8, int32, int64 or uint8."""

    numbers: NDArray[Any]
    name: str | None = None
    """Of the tensor of the network that they are; None: they were computed."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """An array of integers, written where it is used."""

    values: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Structure:
    """A structure, written where it is used."""

    type: str
    """Its name, that of a kernel."""
    fields: tuple[tuple[str, int | str | Constant | None], ...]
    """Name and value of each: an integer, the name of one, numbers in flash, or None for a null pointer."""

    @property
    def bytes(self) -> int:
        """Its bytes where pointers have 8 bytes."""
        pointers = sum(not isinstance(value, (int, str)) for _, value in self.fields)
        size = 8 * pointers + 4 * (len(self.fields) - pointers)
        return -(-size // 8) * 8 if pointers else size


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a C function: its arguments in order, as ``Values``, ``Constant``, ``PackedLayer``, ``Numbers``,
    ``Structure``, integers, floats (float32), or None for a null pointer."""

    function: str
    """Name of a kernel."""
    arguments: tuple[Any, ...]
    output: Values
    """One of the arguments; the others are read."""
    in_place: tuple[Values, ...] = ()
    """Arguments that the output may replace, number by number."""
    scratch: Values | None = None
    """An argument that is memory for this call alone."""
    grid: ActivationGrid | None = None
    """Of ``round_inputs``: what it rounds to."""

    @property
    def reads(self) -> tuple[Values, ...]:
        """The values that the call reads."""
        own = (self.output, self.scratch)
        return tuple(one for one in self.arguments if isinstance(one, Values) and all(one is not part for part in own))


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as a list of calls."""

    calls: tuple[Call, ...]
    image: Values
    """Where the normalised image goes in before the first call."""
    scores: Values
    """Where the class scores are after the last call."""
    image_grid: ActivationGrid | None = None
    """The grid of the image, if its codes go in; None: float32 numbers."""
    score_step: float | None = None
    """What one unit of the scores is, if they are integers; None: float32 numbers."""

    def with_layers(self, packed: PackedNetwork) -> Program:
        """Return the same calls for another compression of the network: its layers, grids of inputs and tensors.

        Constants that were computed from tensors stay. Inputs of layers must be rounded in both or in neither.
        """
        layers = {layer.name: layer for layer in packed.layers}
        grids = {
            call.arguments[0].buffer: layers[one.name].inputs
            for call in self.calls
            for one in call.arguments
            if isinstance(one, PackedLayer) and one.name in layers
        }

        def replaced(one: Any) -> Any:
            if isinstance(one, PackedLayer):
                return layers.get(one.name, one)
            if isinstance(one, Constant) and one.name in packed.tensors:
                return tensors[one.name]
            return one

        used = {one.name for one in self.constants if one.name in packed.tensors}
        tensors = {name: Constant(packed.tensors[name].astype(np.float32), name) for name in used if name is not None}
        calls = tuple(
            dataclasses.replace(
                call,
                arguments=tuple(map(replaced, call.arguments)),
                grid=call.grid and grids[call.output.buffer],
            )
            for call in self.calls
        )
        return dataclasses.replace(self, calls=calls)

    @property
    def arithmetic(self) -> Arithmetic:
        """That of its layers, or of some of them."""
        return "int8" if any(call.scratch is not None for call in self.calls) else "float"

    @property
    def layers(self) -> tuple[PackedLayer, ...]:
        """The packed layers in the order of their first call, each once."""
        found = {id(one): one for call in self.calls for one in call.arguments if isinstance(one, PackedLayer)}
        return tuple(found.values())

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The constants in the order of their first use, each once."""
        found: dict[int, Constant] = {}
        for call in self.calls:
            for one in call.arguments:
                parts = [part for _, part in one.fields] if isinstance(one, Structure) else [one]
                found.update((id(part), part) for part in parts if isinstance(part, Constant))
        return tuple(found.values())

    @property
    def tables(self) -> tuple[Numbers | Structure, ...]:
        """The arrays and structures that calls take, each once."""
        found = (one for call in self.calls for one in call.arguments if isinstance(one, (Numbers, Structure)))
        return tuple(dict.fromkeys(found))
