"""The methods that choose the quantization step of a layer, by name.

To add one, write its ``clip`` function and add an entry to ``QUANTIZERS``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# Number of clipping thresholds that `mse` tries, as fractions of the largest weight. The last is the largest weight.
_CLIPS = 80
# Above this many bits the best threshold is close to the largest weight, and each one tried costs 2^bits boundaries.
_FINE_BITS, _FINE_CLIPS, _FINE_LOWEST = 8, 10, 0.8


@dataclasses.dataclass(frozen=True)
class QuantizerMethod:
    """One way to choose the largest value of the quantization grid."""

    name: str
    """Name on the command line."""
    summary: str
    """Description for help texts."""
    clip: Callable[[Tensor, int], Tensor]
    """Weights of shape (rows, weights) and bits -> the largest value of each row's grid, shape (rows,), 0 or more."""


def largest_weight(rows: Tensor, bits: int) -> Tensor:
    """Return max|w| of each row, as in the paper."""
    return rows.abs().amax(dim=1)


def least_squared_error(rows: Tensor, bits: int) -> Tensor:
    """Return for each row the clipping threshold, among fractions of max|w|, with the least squared error.

    Zero weights have no error. The error is never larger than that of ``largest_weight``.

    The magnitudes are sorted, and their sums and sums of squares accumulated. The error of a step s is then the sum
    over the codes k of (sum w^2 - 2 k s sum w + k^2 s^2 count) between the boundaries (k - 1/2) s, so trying a
    threshold needs no pass over the weights.
    """
    import torch  # here, so that the command line can list the methods without it

    device = rows.device
    top = 2 ** (bits - 1) - 1
    magnitudes = rows.abs().double().sort(dim=1).values
    zero = magnitudes.new_zeros(len(rows), 1)
    sums = torch.cat([zero, magnitudes.cumsum(1)], 1)
    squares = torch.cat([zero, magnitudes.square().cumsum(1)], 1)
    if bits <= _FINE_BITS:
        fractions = torch.arange(1, _CLIPS + 1, device=device, dtype=torch.float64) / _CLIPS
    else:
        fractions = torch.linspace(_FINE_LOWEST, 1, _FINE_CLIPS, device=device, dtype=torch.float64)
    codes = torch.arange(top + 1, device=device, dtype=torch.float64)
    errors = []
    for fraction in fractions:
        step = (magnitudes[:, -1:] * fraction / top).float().double()
        edges = torch.searchsorted(magnitudes, (codes[1:] - 0.5) * step)
        edges = torch.cat([torch.zeros_like(edges[:, :1]), edges, torch.full_like(edges[:, :1], rows.shape[1])], 1)
        value = codes * step
        count = edges.diff(dim=1)
        error = squares.gather(1, edges).diff(dim=1) - 2 * value * sums.gather(1, edges).diff(dim=1) + value**2 * count
        errors.append(error.sum(1))
    # Ties: the largest threshold. argmin returns the first minimum, so it comes first after the flip.
    best = torch.stack(errors).flip(0).argmin(0)
    return largest_weight(rows, bits) * fractions.flip(0)[best].float()


QUANTIZERS: Mapping[str, QuantizerMethod] = {
    method.name: method
    for method in (
        QuantizerMethod("absmax", "largest weight", largest_weight),
        QuantizerMethod("mse", "least squared error", least_squared_error),
    )
}
"""Name -> method."""

if TYPE_CHECKING:
    QuantizerName = str
else:
    QuantizerName = Literal[tuple(QUANTIZERS)]


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """How the weights and inputs of every layer are quantized."""

    method: QuantizerName = "mse"
    """How the step is chosen, a name of ``QUANTIZERS``."""
    per_channel: bool = False
    """One step per output channel instead of one per layer."""
    bias_correction: bool = False
    """Subtract from each bias the mean error that the quantized weights cause on training images."""
    activation_bits: int | None = None
    """Bits to which the layers' inputs are rounded in evaluations, 2..15; None: not rounded."""

    @property
    def needs_layer_inputs(self) -> bool:
        """Whether statistics of the layers' inputs on training images are needed."""
        return self.bias_correction or self.activation_bits is not None
