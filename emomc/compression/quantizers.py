"""The methods that choose the quantization step of a layer, by name.

To add one, write its ``clip`` function and add an entry to ``QUANTIZERS``.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# Number of clipping thresholds that `mse` tries, as fractions of the largest weight. The last is the largest weight.
_CLIPS = 80
# Above this many bits the best threshold is close to the largest weight, and each one tried costs 2^bits boundaries.
_FINE_BITS, _FINE_CLIPS, _FINE_LOWEST = 8, 10, 0.8
# Values of grids that `mse` tries at a time.
_TOGETHER = 262_144


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

    The magnitudes are sorted and their sums accumulated. The error of a step s is the sum of all w^2, the same for
    every s, and the sum over the codes k of (k^2 s^2 count - 2 k s sum w) between the boundaries (k - 1/2) s, so trying
    a threshold needs no pass over the weights.
    """
    import torch  # here, so that the command line can list the methods without it

    device = rows.device
    top = 2 ** (bits - 1) - 1
    magnitudes = rows.abs().double().sort(dim=1).values
    sums = torch.cat([magnitudes.new_zeros(len(rows), 1), magnitudes.cumsum(1)], 1)
    if bits <= _FINE_BITS:
        fractions = torch.arange(_CLIPS, 0, -1, device=device, dtype=torch.float64) / _CLIPS
    else:
        fractions = torch.linspace(1, _FINE_LOWEST, _FINE_CLIPS, device=device, dtype=torch.float64)
    # With more codes than weights in a row, a pass over the weights is faster.
    by_codes = top < magnitudes.shape[1]
    errors = []
    # Some fractions at a time: together they are fast, and take little memory.
    for some in fractions.split(max(1, _TOGETHER // (len(rows) * min(top + 1, magnitudes.shape[1])))):
        step = (magnitudes[:, -1:] * some / top).float().double()
        errors.append(_errors_by_codes(magnitudes, sums, step, top) if by_codes else _errors(magnitudes, step, top))
    # Ties: the largest threshold. argmin returns the first minimum.
    return largest_weight(rows, bits) * fractions[torch.cat(errors, 1).argmin(1)].float()


def _errors_by_codes(magnitudes: Tensor, sums: Tensor, step: Tensor, top: int) -> Tensor:
    """Return the squared errors of steps, less the sum of all w^2, (rows, steps).

    Args:
        magnitudes: (rows, weights), ascending.
        sums: (rows, 1 + weights), of the first 0, 1, 2, ... magnitudes.
        step: (rows, steps).
        top: largest code.
    """
    import torch
    from torch.nn import functional

    codes = torch.arange(top + 1, device=step.device, dtype=step.dtype)
    values = step.unsqueeze(2) * codes
    edges = torch.searchsorted(magnitudes, (step.unsqueeze(2) * (codes[1:] - 0.5)).flatten(1))
    edges = functional.pad(edges.view(*step.shape, top), (1, 0))
    edges = functional.pad(edges, (0, 1), value=magnitudes.shape[1])
    totals = sums.gather(1, edges.flatten(1)).view(edges.shape).diff(dim=2)
    return (values**2 * edges.diff(dim=2) - 2 * values * totals).sum(2)


def _errors(magnitudes: Tensor, step: Tensor, top: int) -> Tensor:
    """Return the squared errors of steps, (rows, steps); arguments as for ``_errors_by_codes``."""
    # A row of zeros has steps of zero.
    step = step.clamp_min(sys.float_info.min).unsqueeze(1)
    scaled = magnitudes.unsqueeze(2) / step
    return ((scaled.round().clamp(max=top) - scaled) * step).square().sum(1)


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

RoundingName = Literal["nearest", "learned"]
ScaleName = Literal["float16", "float32"]


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
    """Bits to which the layers' inputs are rounded in evaluations, 2..15; None: not rounded. Where layers differ, this
    is for those whose bits nothing else says."""
    rounding: RoundingName = "nearest"
    """To the nearest code, or to the codes and steps of ``learn_rounding``."""
    integer_biases: bool = True
    """Whether, where inputs are rounded, biases are whole multiples of the step of their layer's sums, too. False for
    what was searched before that."""
    scales: ScaleName = "float32"
    """Numbers of the scales and biases of quantized layers. In float16 one scale alone, and biases that are whole
    multiples, stay in float32."""
    layer_activation_bits: tuple[int, ...] = ()
    """Bits that the inputs of a layer may have where layers differ, ascending, 2..16; empty: all have the same."""

    @property
    def rounds_inputs(self) -> bool:
        """Whether inputs of layers are rounded, or may be."""
        return self.activation_bits is not None or bool(self.layer_activation_bits)

    @property
    def needs_layer_inputs(self) -> bool:
        """Whether statistics of the layers' inputs on training images are needed."""
        return self.bias_correction or self.rounds_inputs or self.needs_covariances

    @property
    def needs_covariances(self) -> bool:
        """Whether they include how inputs vary together; how large they are is needed where their bits are searched."""
        return self.rounding == "learned" or bool(self.layer_activation_bits)
