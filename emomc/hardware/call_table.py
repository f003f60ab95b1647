"""All layer calls of a network as a table of columns, for vectorised counting."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.networks.layers import LAYER_KINDS, LayerCall, LayerShape

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class CallTable:
    """The layer calls in one forward pass of one image; the calls of one layer are adjacent.

    A transposed convolution is described as it is usually computed: as a 1x1 convolution from each input pixel to all
    outputs that the kernel reaches from it, whose overlaps are then added.

    All arrays have shape (calls,). x is the width and y the height: a kernel of (height, width) (3, 5) has fy 3, fx 5.
    """

    layer: npt.NDArray[np.intp]
    """Index of the called layer."""
    linear: npt.NDArray[np.bool_]
    """Whether the layer is linear or a product; it is described as a 1x1 convolution over its positions."""
    c: Array
    """Input channels of one group."""
    k: Array
    """Output channels of one group."""
    groups: Array
    ox: Array
    oy: Array
    fx: Array
    fy: Array
    stride_x: Array
    stride_y: Array
    dilation_x: Array
    dilation_y: Array
    input_values: Array
    """Number of values in the input map, all groups, without padding."""

    @property
    def output_pixels(self) -> Array:
        """OX x OY."""
        return self.ox * self.oy

    @property
    def output_values(self) -> Array:
        """Number of values in the output map, all groups."""
        return self.k * self.groups * self.output_pixels

    @property
    def weights(self) -> Array:
        """Number of weights of the called layer, all groups."""
        return self.c * self.k * self.groups * self.fx * self.fy

    @property
    def macs(self) -> Array:
        """Multiply-accumulates of the call without pruning."""
        return self.weights * self.output_pixels

    def per_layer(self, per_call: Array) -> Array:
        """Sum over the calls of each layer: (n, calls) -> (n, layers)."""
        if len(self.layer) == self.layer[-1] + 1:
            return per_call
        starts = np.flatnonzero(np.diff(self.layer, prepend=-1))
        return np.add.reduceat(per_call, starts, axis=-1)


def check_layers(layers: Sequence[LayerShape]) -> None:
    """Check that every layer can be costed.

    Raises:
        UserError: there is no layer, a layer is never called, or no cost formula exists for its kind.
    """
    if not layers:
        raise UserError("expected at least one layer, found none")
    for layer in layers:
        if layer.kind not in LAYER_KINDS:
            kinds = ", ".join(LAYER_KINDS)
            raise UserError(f"expected layers of kind {kinds}, found {layer.name} of kind {layer.kind!r}")
        if not layer.calls:
            raise UserError(f"expected layers that are called, found {layer.name} without a call")


def tabulate_calls(layers: Sequence[LayerShape]) -> CallTable:
    """List all calls of all layers.

    Raises:
        UserError: as ``check_layers``.
    """
    check_layers(layers)
    rows = [_row(index, layer, call) for index, layer in enumerate(layers) for call in layer.calls]
    columns = {
        name: np.array(values, dtype=np.float64) for name, values in zip(_COLUMNS, zip(*rows, strict=True), strict=True)
    }
    layer = columns.pop("layer").astype(np.intp)
    return CallTable(layer=layer, linear=columns.pop("linear").astype(np.bool_), **columns)


_COLUMNS = tuple(field.name for field in dataclasses.fields(CallTable))


def _row(index: int, layer: LayerShape, call: LayerCall) -> tuple[float, ...]:
    oy, ox = call.output_size
    (fy, fx), (sy, sx), (dy, dx) = layer.kernel_size, layer.stride, layer.dilation
    c, k = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    input_values = layer.in_channels * call.input_size[0] * call.input_size[1]
    if layer.kind == "conv_transpose":
        oy, ox = call.input_size
        k, fy, fx, sy, sx, dy, dx = k * fy * fx, 1, 1, 1, 1, 1, 1
    return (
        index,
        layer.kind in ("linear", "product"),
        c,
        k,
        layer.groups,
        ox,
        oy,
        fx,
        fy,
        sx,
        sy,
        dx,
        dy,
        input_values,
    )
