"""What a network takes and returns, where it is more than one tensor."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from emomc.common.errors import UserError, require

Path: TypeAlias = tuple[int | str, ...]
"""Where a tensor is: positions in tuples and keys of mappings; () is the value itself."""

ONLY_INPUT: Path = (0,)
"""The only argument of a network, given by its position."""
_LARGEST_SIDE = 1 << 16
"""Of the shape of joined inputs, since a packed file has no more."""
_MOST_PARTS = 256


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several tensors that a network takes or returns."""

    path: tuple[int | str, ...]
    """Where it is. That of an input begins with its position or its keyword."""
    shape: tuple[int, ...]
    """Of one sample."""

    def __post_init__(self) -> None:
        """Check the ranges, since the values may come from an untrusted file.

        Raises:
            UserError: a side is not positive, or there is no path.
        """
        require(all(side >= 1 for side in self.shape), "sides of at least 1 as the shape of a part", self.shape)
        require(len(self.path) > 0, "a path of a part", self.path)

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """The path as a name, such as ``heads_0``."""
        return "_".join(map(str, self.path))

    @property
    def sides(self) -> str:
        """The shape as a text, such as ``3 x 32 x 32``; ``1`` for a number."""
        return " x ".join(map(str, self.shape)) or "1"


@dataclasses.dataclass(frozen=True)
class NetworkInterface:
    """The inputs and outputs of a network, where they are more than one tensor each.

    All that compresses, costs and exports knows functions of one tensor to one tensor. The inputs of a network with
    several are flattened and joined, sample by sample, and so are its outputs.
    """

    inputs: tuple[Part, ...] = ()
    """In the order in which they are joined; empty: the only argument is one tensor."""
    outputs: tuple[Part, ...] = ()
    """Likewise; empty: it returns one tensor."""

    def __post_init__(self) -> None:
        """Check that the parts are at different places, since they may come from an untrusted file.

        Raises:
            UserError: they are not, or they are too many.
        """
        for what, parts in (("inputs", self.inputs), ("outputs", self.outputs)):
            paths = [part.path for part in parts]
            require(len(paths) <= _MOST_PARTS, f"at most {_MOST_PARTS} {what} of a network", len(paths))
            starts = [path[:length] for path in paths for length in range(1, len(path) + 1)]
            alone = all(starts.count(path) == 1 for path in paths)
            require(alone, f"{what} of a network at different places", paths)

    @property
    def input_paths(self) -> list[Path]:
        """Where the inputs are, in order; an only one is the first argument."""
        return [part.path for part in self.inputs] or [ONLY_INPUT]

    @property
    def output_paths(self) -> list[Path]:
        """Where the outputs are, in order."""
        return [part.path for part in self.outputs] or [()]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the joined inputs: (values,), or two sides if those are too many for one.

        Raises:
            UserError: there is no such shape.
        """
        total = sum(part.size for part in self.inputs)
        for rows in range(1, _LARGEST_SIDE + 1):
            if total % rows == 0 and total // rows <= _LARGEST_SIDE:
                return (total,) if rows == 1 else (rows, total // rows)
        raise UserError(f"expected inputs of some {_LARGEST_SIDE} numbers at most in all, found {total}")

    def join_inputs(self, values: Sequence[Tensor]) -> Tensor:
        """Return the inputs, (n, *shape) each, as one tensor, (n, *input_shape)."""
        return _joined(values).reshape(-1, *self.input_shape) if self.inputs else values[0]

    def split_inputs(self, joined: Tensor) -> list[Tensor]:
        """Return the inputs that were joined, (n, *shape) each."""
        return _split(joined, self.inputs)

    def join_outputs(self, values: Sequence[Tensor]) -> Tensor:
        """Return the outputs, (n, *shape) each, as one tensor, (n, values)."""
        return _joined(values) if self.outputs else values[0]

    def split_outputs(self, joined: Tensor) -> list[Tensor]:
        """Return the outputs that were joined, (n, *shape) each."""
        return _split(joined, self.outputs)


NetworkForm: TypeAlias = str | NetworkInterface | None
"""How a network is seen as a function of one tensor: key or index of the output that counts, or all of its inputs and
outputs, joined; None: its only output, or the first of several in order."""


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the value of all that lies in tuples, lists and mappings of any nesting."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for position, inner in enumerate(value):
            yield from leaves(inner, (*path, position))
    else:
        yield path, value


def nested(found: Mapping[Path, Any]) -> Any:
    """Return values at their paths, in tuples and mappings."""
    if () in found:
        return found[()]
    keys = dict.fromkeys(path[0] for path in found)
    inner = {key: nested({path[1:]: value for path, value in found.items() if path[0] == key}) for key in keys}
    if all(isinstance(key, int) for key in keys):
        return tuple(inner[key] for key in sorted(keys))
    return inner


def names_of(parts: Sequence[Part], whole: str) -> list[str]:
    """Return the names of inputs or outputs: keywords and keys as they are, positions after the name of the whole."""
    return [f"{whole}_{part.name}" if isinstance(part.path[0], int) else part.name for part in parts]


def described(found: Mapping[Path, Tensor]) -> tuple[Part, ...]:
    """Return the parts that tensors of samples, (n, ...) each, are."""
    return tuple(Part(path, tuple(value.shape[1:])) for path, value in found.items())


def _joined(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.reshape(value.shape[0], -1) for value in values], 1)


def _split(joined: Tensor, parts: Sequence[Part]) -> list[Tensor]:
    if not parts:
        return [joined]
    flat, ends = joined.reshape(joined.shape[0], -1), list(itertools.accumulate(part.size for part in parts))
    return [flat[:, end - part.size : end].reshape(-1, *part.shape) for part, end in zip(parts, ends, strict=True)]
