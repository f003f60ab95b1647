"""The layers of a network: what the cost models must know of them, and how their weights lie in memory."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from emomc.common.errors import is_whole, require

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple[int, int]
LayerKind = Literal["conv", "linear", "conv_transpose", "product"]
LAYER_KINDS: tuple[LayerKind, ...] = ("conv", "linear", "conv_transpose", "product")


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
    """What the cost models need to know of one layer.

    A layer that the forward pass calls several times has its weights once and a ``LayerCall`` for each call. A
    convolution over one dimension has the height 1. A product of two activations, as in attention, is described as a
    linear layer whose weights are the second activation, one group for each product of matrices.
    """

    name: str
    kind: LayerKind
    """``conv``: over one or two dimensions. ``linear``. ``conv_transpose``: each input pixel meets the whole kernel.
    ``product``: of two activations."""
    in_channels: int
    out_channels: int
    calls: tuple[LayerCall, ...]
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    parameter: str = ""
    """Name of the parameter that holds the weights; ``NAME.weight`` if empty."""
    stored: bool = True
    """Whether the layer has weights of its own to compress. False: a product of activations, a fixed filter, or weights
    that are computed from parameters; it is costed, and stays as it is."""
    input_first: bool = False
    """Whether the parameter has its input channels first, as transposed convolutions and ``x @ weight`` have them."""

    def __post_init__(self) -> None:
        """Check the ranges, since a shape may come from a file.

        Raises:
            UserError: a number is no integer of at least 1.
        """
        require(isinstance(self.name, str), "the name of a layer", self.name)
        for key in ("in_channels", "out_channels", "groups"):
            require(is_whole(getattr(self, key)), f"{key} of at least 1 in layer {self.name}", getattr(self, key))
        for key in ("kernel_size", "stride", "dilation"):
            require(min(getattr(self, key)) >= 1, f"{key} of at least 1 in layer {self.name}", getattr(self, key))
        require(isinstance(self.parameter, str), f"the name of a parameter in layer {self.name}", self.parameter)

    @property
    def weight_key(self) -> str:
        """Name of the parameter that holds the weights."""
        return self.parameter or f"{self.name}.weight"

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return self.in_channels // self.groups * self.out_channels * math.prod(self.kernel_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, all calls together."""
        return self.weights * sum(self.positions(call) for call in self.calls)

    def positions(self, call: LayerCall) -> int:
        """Return how often each weight is used in a call: the output pixels, or the input's where it is transposed."""
        return math.prod(call.input_size if self.kind == "conv_transpose" else call.output_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the shape as JSON-ready values."""
        return dataclasses.asdict(self)


def output_first(weight: Tensor, layer: LayerShape) -> Tensor:
    """Return a layer's weights as (output channels, inputs per group, *kernel)."""
    if not layer.input_first:
        return weight
    groups, kernel = layer.groups, weight.shape[2:]
    split = weight.reshape(groups, layer.in_channels // groups, layer.out_channels // groups, *kernel)
    return split.transpose(1, 2).reshape(layer.out_channels, layer.in_channels // groups, *kernel).contiguous()


def as_stored(weight: Tensor, layer: LayerShape) -> Tensor:
    """Undo ``output_first``."""
    if not layer.input_first:
        return weight
    groups, kernel = layer.groups, weight.shape[2:]
    split = weight.reshape(groups, layer.out_channels // groups, layer.in_channels // groups, *kernel)
    return split.transpose(1, 2).reshape(layer.in_channels, layer.out_channels // groups, *kernel)
