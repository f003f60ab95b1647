"""What a population of compressed networks asks of an accelerator: the one argument of every cost function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.hardware.call_table import check_layers
from emomc.networks.layers import LayerShape

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Workload:
    """One forward pass of one image, for n candidates of one network: one row a candidate, one column a layer.

    Whatever array-like is given is checked and becomes an array of floats.

    Raises:
        UserError: an array has another shape or a value out of its range, there is no layer, or a layer is of a kind
            that no formula covers.
    """

    layers: Sequence[LayerShape]
    """The layers of the network; a layer that is called several times costs each call, and has its weights once."""
    bits: Array
    """Bits per weight, integers 1..32, shape (n, layers); 32 for an uncompressed layer."""
    density: Array
    """Fraction of weights that are not zero, 0..1, shape (n, layers)."""
    coded_bits: Array | None = None
    """Bits of each layer's coded weights, 0 or more, shape (n, layers). None: all weights travel, pruned or not, with
    ``bits`` and the memory's extra bits each. The paper's counts know no coding and do not use it."""
    activation_bits: int | None = None
    """Bits of an input, and of a finished output in the memories further out, in place of the hardware's 1..32; partial
    sums keep the hardware's."""

    def __init__(
        self,
        layers: Sequence[LayerShape],
        bits: npt.ArrayLike,
        density: npt.ArrayLike,
        coded_bits: npt.ArrayLike | None = None,
        activation_bits: int | None = None,
    ) -> None:
        """Check the arguments; the fields say what each is."""
        check_layers(layers)
        checked = {
            "bits": _checked("bits", bits, len(layers), 1.0, float(UNCOMPRESSED_BITS)),
            "density": _checked("density", density, len(layers), 0.0, 1.0),
        }
        if np.any(checked["bits"] != np.rint(checked["bits"])):
            raise UserError("expected whole numbers of bits, found fractions")
        if coded_bits is not None:
            checked["coded_bits"] = _checked("coded_bits", coded_bits, len(layers), 0.0, np.inf)
        for name, array in checked.items():
            if array.shape != checked["bits"].shape:
                raise UserError(
                    f"expected bits and {name} of one shape, found {checked['bits'].shape} and {array.shape}"
                )
        if activation_bits is not None and not 1 <= activation_bits <= UNCOMPRESSED_BITS:
            raise UserError(f"expected activation_bits in 1..{UNCOMPRESSED_BITS}, found {activation_bits}")
        values = {"layers": tuple(layers), "coded_bits": None, **checked, "activation_bits": activation_bits}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def weights(self) -> Array:
        """Weights of each layer, shape (layers,)."""
        return np.array([layer.weights for layer in self.layers], dtype=np.float64)

    @property
    def travelling_bits(self) -> Array:
        """Bits of each layer's weights as they travel, coded or not, shape (n, layers)."""
        return self.weights * self.bits if self.coded_bits is None else self.coded_bits


def _checked(name: str, values: npt.ArrayLike, layers: int, low: float, high: float) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != layers:
        raise UserError(f"expected {name} of shape (candidates, {layers}), found {array.shape}")
    if not np.all((array >= low) & (array <= high)) or not np.all(np.isfinite(array)):
        raise UserError(f"expected finite {name} in {low:g}..{high:g}, found {array.min():g}..{array.max():g}")
    return array
