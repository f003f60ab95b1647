"""The program that a network becomes: calls of C functions on buffers of floats."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.packed_file.network import PackedLayer


@dataclasses.dataclass(frozen=True, eq=False)
class Buffer:
    """Memory for one image's values between two calls."""

    count: int
    """Float32 numbers."""


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
        """Float32 numbers."""
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether it is all of its buffer."""
        return self.offset == 0 and self.count == self.buffer.count


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """Float32 numbers that stay in flash."""

    numbers: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """An array of integers, written where it is used."""

    values: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Structure:
    """A structure of integers, written where it is used."""

    type: str
    """Its name, that of a kernel."""
    fields: tuple[tuple[str, int], ...]
    """Name and number of each."""


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

    @property
    def reads(self) -> tuple[Values, ...]:
        """The values that the call reads."""
        return tuple(one for one in self.arguments if isinstance(one, Values) and one is not self.output)


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as a list of calls."""

    calls: tuple[Call, ...]
    image: Values
    """Where the normalised image goes in before the first call."""
    scores: Values
    """Where the class scores are after the last call."""

    @property
    def layers(self) -> tuple[PackedLayer, ...]:
        """The packed layers in the order of their first call, each once."""
        found = {id(one): one for call in self.calls for one in call.arguments if isinstance(one, PackedLayer)}
        return tuple(found.values())

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The constants in the order of their first use, each once."""
        found = {id(one): one for call in self.calls for one in call.arguments if isinstance(one, Constant)}
        return tuple(found.values())
