"""Shapes of the layers of a network, as the cost models need them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from emomc.common.errors import is_whole, require

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One use of a layer in one forward pass of one image."""

    input_size: Pair
    """Height and width of the input map, pixels; (1, positions) for a linear layer."""
    output_size: Pair
    """Height and width of the output map, pixels; (1, positions) for a linear layer."""

    @property
    def output_pixels(self) -> int:
        """Output positions, OX x OY."""
        return math.prod(self.output_size)


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """Shape of one convolution or linear layer.

    A layer that the forward pass calls several times has its weights once and one ``LayerCall`` per call.
    """

    name: str
    kind: Literal["conv", "linear"]
    in_channels: int
    out_channels: int
    calls: tuple[LayerCall, ...]
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        """Check the ranges, since a shape may come from a file.

        Raises:
            UserError: a number is below 1 or of a wrong type, or the name is not a text.
        """
        require(isinstance(self.name, str), "the name of a layer", self.name)
        for key in ("in_channels", "out_channels", "groups"):
            require(is_whole(getattr(self, key)), f"{key} of at least 1 in layer {self.name}", getattr(self, key))
        for key in ("kernel_size", "stride", "dilation"):
            require(min(getattr(self, key)) >= 1, f"{key} of at least 1 in layer {self.name}", getattr(self, key))

    @property
    def weights(self) -> int:
        """Number of weights, without biases."""
        return self.in_channels // self.groups * self.out_channels * math.prod(self.kernel_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one image, over all calls."""
        return self.weights * sum(call.output_pixels for call in self.calls)

    def to_dict(self) -> dict[str, Any]:
        """Return the shape as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LayerShape:
        """Make the shape from the values of ``to_dict``."""
        calls = tuple(LayerCall(pair(call["input_size"]), pair(call["output_size"])) for call in values["calls"])
        sizes = {key: pair(values[key]) for key in ("kernel_size", "stride", "dilation")}
        return cls(**{**values, **sizes, "calls": calls})


def pair(values: Iterable[Any]) -> Pair:
    """Return the height and the width of a size, as integers."""
    height, width = values
    return int(height), int(width)
