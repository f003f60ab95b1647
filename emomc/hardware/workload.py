"""The workload of a population of compressed networks, the input of every cost function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.hardware.call_table import check_layers
from emomc.networks.feature_maps import MapSchedule
from emomc.networks.layers import LayerShape

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class OtherZeros:
    """What is known of zeros besides how many weights are zero; array-likes of shape (n, layers), values 0..1."""

    structured_density: npt.ArrayLike | None = None
    """Density of each layer's weights in a pattern that structured hardware skips: N:M, or whole channels. None: the
    zeros follow no pattern."""
    input_density: npt.ArrayLike | None = None
    """Fraction of each layer's inputs that are not zero. None: all count as nonzero."""


@dataclasses.dataclass(frozen=True, eq=False)
class ByLayer:
    """Bits of activations that differ from layer to layer; array-likes of shape (n, layers), values 1..32."""

    inputs: npt.ArrayLike
    """Bits of an input."""
    outputs: npt.ArrayLike
    """Bits of a complete output in the outer memories."""
    most: int
    """Bits of every map where it is decided which maps stay on chip, so that no candidate depends on others."""


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Workload:
    """One forward pass of one image, for n candidates: one row per candidate, one column per layer.

    Array-likes are checked and converted to float arrays.

    Raises:
        UserError: an array has the wrong shape or a value out of range, there is no layer, a layer is never called, or
            no cost formula exists for its kind.
    """

    layers: Sequence[LayerShape]
    """The layers of the network; every call of a layer is costed, but its weights are stored once."""
    bits: Array
    """Bits per weight, integers 1..32, shape (n, layers); 32 for an uncompressed layer."""
    density: Array
    """Fraction of weights that are not zero, 0..1, shape (n, layers)."""
    coded_bits: Array | None = None
    """Bits of each layer's coded weights, 0 or more, shape (n, layers). None: every weight is moved, zero or
    not, with ``bits`` and the memory's extra bits. The paper's counts do not use it."""
    activation_bits: int | None = None
    """Bits of an input, and of a complete output in the outer memories, 1..32, or the most of those by layer; None: the
    hardware's ``precision.I``. Partial sums always have ``precision.O``."""
    input_bits: Array | None = None
    """See ``ByLayer``; None: ``activation_bits`` for all."""
    output_bits: Array | None = None
    """See ``ByLayer``."""
    structured_density: Array | None = None
    """See ``OtherZeros``."""
    input_density: Array | None = None
    """See ``OtherZeros``."""
    maps: MapSchedule | None = None
    """The feature maps, and how long each is needed. None: every map goes to the outermost memory, and what poolings
    and additions move is not counted."""

    def __init__(
        self,
        layers: Sequence[LayerShape],
        bits: npt.ArrayLike,
        density: npt.ArrayLike,
        coded_bits: npt.ArrayLike | None = None,
        activation_bits: int | ByLayer | None = None,
        other_zeros: OtherZeros | None = None,
        maps: MapSchedule | None = None,
    ) -> None:
        """Check and convert the arguments; they are described at the fields."""
        check_layers(layers)
        checked = {
            "bits": _checked("bits", bits, len(layers), 1.0, float(UNCOMPRESSED_BITS)),
            "density": _checked("density", density, len(layers), 0.0, 1.0),
        }
        if np.any(checked["bits"] != np.rint(checked["bits"])):
            raise UserError("expected whole numbers of bits, found fractions")
        zeros = other_zeros or OtherZeros()
        optional = {"coded_bits": coded_bits, **vars(zeros), "input_bits": None, "output_bits": None}
        for name, array in optional.items():
            if array is not None:
                high = np.inf if name == "coded_bits" else 1.0
                checked[name] = _checked(name, array, len(layers), 0.0, high)
        if isinstance(activation_bits, ByLayer):
            for name, array in (("input_bits", activation_bits.inputs), ("output_bits", activation_bits.outputs)):
                checked[name] = _checked(name, array, len(layers), 1.0, float(UNCOMPRESSED_BITS))
            activation_bits = activation_bits.most
        for name, array in checked.items():
            if array.shape != checked["bits"].shape:
                raise UserError(
                    f"expected bits and {name} of one shape, found {checked['bits'].shape} and {array.shape}"
                )
        if activation_bits is not None and not 1 <= activation_bits <= UNCOMPRESSED_BITS:
            raise UserError(f"expected activation_bits in 1..{UNCOMPRESSED_BITS}, found {activation_bits}")
        values = {
            "layers": tuple(layers),
            **dict.fromkeys(optional),
            **checked,
            "activation_bits": activation_bits,
            "maps": maps,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def weights(self) -> Array:
        """Weights of each layer, shape (layers,)."""
        return np.array([layer.weights for layer in self.layers], dtype=np.float64)

    @property
    def travelling_bits(self) -> Array:
        """Bits of each layer's weights when they are moved: ``coded_bits`` if given; shape (n, layers)."""
        return self.weights * self.bits if self.coded_bits is None else self.coded_bits


def _checked(name: str, values: npt.ArrayLike, layers: int, low: float, high: float) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != layers:
        raise UserError(f"expected {name} of shape (candidates, {layers}), found {array.shape}")
    if not np.all((array >= low) & (array <= high)) or not np.all(np.isfinite(array)):
        raise UserError(f"expected finite {name} in {low:g}..{high:g}, found {array.min():g}..{array.max():g}")
    return array
