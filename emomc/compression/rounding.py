"""Learning which code each weight is rounded to, and the steps, from how the inputs of a layer vary together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from emomc.compression.quantization import QuantizedTensor

MOST_LEARNED_BITS = 6
"""Weights of more bits are rounded to the nearest code: their errors are too small to matter."""
PRICE = 0.3
"""What a nonzero code must gain: a share of the mean squared output of a weight of one step."""

_DAMPING = 0.01
_ROUNDS = 4
# Columns after which the effect of their changes on later ones is added up.
_PANEL = 32
# Targets are counted in fractions of a code, and products of inputs in shares of about the largest.
_FRACTION, _LARGEST_PRODUCT = 1 << 10, 1 << 21
# Weights count as no farther from zero than this many codes: only a grid that is clipped a lot has such ones.
_FARTHEST = 1 << 11


def learn_rounding(
    weight: Tensor, starts: Sequence[QuantizedTensor], products: Tensor, *, groups: int = 1, price: float = PRICE
) -> list[QuantizedTensor]:
    """Return codes and steps that change a layer's outputs less than the nearest codes do, for each number of bits.

    With the weights w of an output channel, its codes q and step s, and H the mean products of its inputs, the mean
    squared change of its outputs is (s q - w) H (s q - w)^T. Codes get the best value given all others, one after the
    other, then steps given the codes, in several rounds that end with the codes. Weights that are zero keep the code
    zero: only those that pruning left make up for errors. A code becomes zero if nothing better is worth its ``price``,
    as zeros are neither stored nor multiplied.

    Sums are of whole numbers and stay below 2^53, or are made in a fixed order. So the result is the same to the bit on
    every device, with any number of threads, and for several numbers of bits or several layers at once, which is
    faster: processes need not share it, and an export makes it again.

    Args:
        weight: float, (output channels, inputs per group, *kernel).
        starts: its nearest codes for each number of bits, up to ``MOST_LEARNED_BITS``; all with as many steps.
        products: (blocks, n, n), n at most 256: mean products of the inputs in each block of n. The inputs of a group
            are one or more blocks; inputs of different blocks count as unrelated. Finite.
        groups: of the layer.
        price: see ``PRICE``; 0: the number of zeros does not matter.

    Source: the objective and its damping are those of Frantar et al., "GPTQ", arXiv 2210.17323; one code after the
    other as in Behdin et al., "QuantEase", arXiv 2309.01885.
    """
    return learn_roundings([(weight, starts, products)], groups=groups, price=price)[0]


def learn_roundings(
    layers: Sequence[tuple[Tensor, Sequence[QuantizedTensor], Tensor]], *, groups: int = 1, price: float = PRICE
) -> list[list[QuantizedTensor]]:
    """Do what ``learn_rounding`` does for several layers of one shape, such as one layer of several levels.

    Args:
        layers: weight, starts and products of each; all for the same numbers of bits.
        groups: as there.
        price: as there.
    """
    whole = [_whole_numbers(products.double()) for _, _, products in layers]
    known = [number for number, products in enumerate(whole) if products is not None]
    learned = _learn([layers[number] for number in known], [p for p in whole if p is not None], groups, price)
    found = dict(zip(known, learned, strict=True))
    return [found.get(number, list(starts)) for number, (_, starts, _) in enumerate(layers)]


def _learn(
    layers: Sequence[tuple[Tensor, Sequence[QuantizedTensor], Tensor]],
    products: Sequence[Tensor],
    groups: int,
    price: float,
) -> list[list[QuantizedTensor]]:
    """Learn the codes and steps of layers whose products are ``_whole_numbers``."""
    if not layers:
        return []
    weight, starts, _ = layers[0]
    shape = _Blocks(weight.shape, groups, len(products[0]), len(layers))
    weights = shape.split([weight.double() for weight, _, _ in layers])
    # The columns of all numbers of bits side by side.
    nearest = [[starts[width].codes.double() for _, starts, _ in layers] for width in range(len(starts))]
    codes = torch.cat([shape.split(each) for each in nearest], 2)
    remaining = (weights != 0).double().repeat(1, 1, len(starts))
    tops = [2 ** (start.bits - 1) - 1 for start in starts]
    top = torch.tensor(tops, dtype=codes.dtype, device=codes.device).repeat_interleave(weights.shape[2])
    # (layers, steps) for each number of bits.
    scales = [torch.stack([starts[width].scale.double() for _, starts, _ in layers]) for width in range(len(starts))]
    prices = torch.cat([_prices(each, price) for each in products])
    whole = torch.cat(list(products))
    for left in reversed(range(_ROUNDS)):
        target = torch.cat([_targets(weights, shape.split(_along_outputs(scale, weight))) for scale in scales], 2)
        _improve_codes(codes, target, whole, remaining, top, prices)
        if left:
            factors = _better_steps(codes, target, whole, shape, [scale.shape[1] for scale in scales])
            scales = [scale * factor for scale, factor in zip(scales, factors, strict=True)]
    joined = [shape.join(own) for own in codes.chunk(len(starts), 2)]
    return [
        [
            QuantizedTensor(joined[width][number].to(start.codes.dtype), scales[width][number].float(), start.bits)
            for width, start in enumerate(starts)
        ]
        for number, (_, starts, _) in enumerate(layers)
    ]


class _Blocks:
    """How weights of layers are split into blocks of inputs: (layers x blocks, inputs of a block, outputs of a group).

    All layers have one shape.
    """

    def __init__(self, shape: torch.Size, groups: int, blocks: int, layers: int) -> None:
        self._shape = layers, *shape
        self._split = layers * groups, shape[0] // groups, blocks // groups, -1

    def split(self, values: Sequence[Tensor]) -> Tensor:
        """Return values of the weights of each layer in blocks."""
        return torch.stack(list(values)).reshape(self._split).permute(0, 2, 3, 1).flatten(0, 1).contiguous()

    def join(self, values: Tensor) -> Tensor:
        """Undo ``split``; return values of shape (layers, *weight)."""
        groups, outputs, blocks, _ = self._split
        return values.reshape(groups, blocks, -1, outputs).permute(0, 3, 1, 2).reshape(self._shape)


def _along_outputs(scales: Tensor, weight: Tensor) -> list[Tensor]:
    """Return the steps of each layer, (layers, steps), in the shape of its weight."""
    return [scale.view(-1, *[1] * (weight.ndim - 1)).expand(weight.shape) for scale in scales]


def _targets(weights: Tensor, steps: Tensor) -> Tensor:
    """Return weights as whole numbers, in units of 1 / ``_FRACTION`` of a code."""
    most = _FARTHEST * _FRACTION
    return (weights / steps * _FRACTION).round_().clamp_(-most, most)


def _whole_numbers(products: Tensor) -> Tensor | None:
    """Return the products, damped, as whole numbers up to about ``_LARGEST_PRODUCT``; None if all are zero.

    Args:
        products: float64, (blocks, n, n).
    """
    largest = float(products.diagonal(dim1=1, dim2=2).amax())
    # A power of two: the division is exact.
    unit = math.ldexp(1 / _LARGEST_PRODUCT, math.frexp(largest)[1])
    if not largest > unit > 0:
        return None
    whole = ((products + products.mT) / (2 * unit)).round_().clamp_(-_LARGEST_PRODUCT, _LARGEST_PRODUCT)
    diagonal = whole.diagonal(dim1=1, dim2=2)
    diagonal += (diagonal.mean() * _DAMPING).round().clamp_min(1)
    return whole


def _prices(products: Tensor, price: float) -> Tensor:
    """Return what a nonzero code must gain for each input, (blocks, n), in units of the curvature."""
    curvature = products.diagonal(dim1=1, dim2=2)
    return price * curvature.mean() / curvature


def _improve_codes(
    codes: Tensor, target: Tensor, products: Tensor, remaining: Tensor, top: Tensor, prices: Tensor
) -> None:
    """Give each code, in place and in the order of the inputs, the best value given all others.

    Args:
        codes: (blocks, n, columns), whole numbers in -top .. top; a column is an output with one number of bits.
        target: as ``_targets`` returns them, of the same shape.
        products: (blocks, n, n), whole numbers.
        remaining: as codes; 1 where the code may be nonzero, else 0.
        top: (columns,), largest code.
        prices: as ``_prices`` returns them.
    """
    curvature = products.diagonal(dim1=1, dim2=2)
    pulls = products @ (codes * _FRACTION - target)
    for first in range(0, codes.shape[1], _PANEL):
        panel = slice(first, first + _PANEL)
        before = codes[:, panel].clone()
        for column in range(first, min(first + _PANEL, codes.shape[1])):
            old = codes[:, column]
            best = old - pulls[:, column] / (curvature[:, column, None] * _FRACTION)
            new = best.round().clamp_(-top, top)
            # By how much the squared error is less than with the code zero, in units of the curvature.
            gain = new * (2 * best - new)
            new *= (gain > prices[:, column, None]) * remaining[:, column]
            later = slice(column + 1, panel.stop)
            pulls[:, later] += products[:, later, column, None] * ((new - old) * _FRACTION)[:, None]
            codes[:, column] = new
        moves = (codes[:, panel] - before) * _FRACTION
        pulls[:, panel.stop :] += products[:, panel.stop :, panel] @ moves


def _better_steps(
    codes: Tensor, target: Tensor, products: Tensor, shape: _Blocks, steps: Sequence[int]
) -> list[Tensor]:
    """Return the factors, (layers, steps), that give each step its best value given the codes, for each number of bits.

    Args:
        codes: as for ``_improve_codes``, and so ``target`` and ``products``.
        shape: how they are split.
        steps: for each number of bits the number of output channels, or 1 for all together.
    """
    of_errors, of_codes = products @ (codes * _FRACTION - target), products @ codes
    sums = (each.chunk(len(steps), 2) for each in (of_errors * codes, of_codes * codes))
    factors = []
    for errors, squares, count in zip(*sums, steps, strict=True):
        excess, total = (_sum_by_step(shape.join(each), count) for each in (errors, squares))
        total = total * _FRACTION
        factor = 1 - excess / total
        # Without a nonzero code any step will do.
        factors.append(torch.where((total > 0) & (factor > 0), factor, torch.ones_like(factor)))
    return factors


def _sum_by_step(values: Tensor, steps: int) -> Tensor:
    """Return the sums, (layers, steps), of values of shape (layers, *weight)."""
    return _sum(values.reshape(len(values) * steps, -1)).view(-1, steps)


def _sum(rows: Tensor) -> Tensor:
    """Return the sum of each row, added up in an order that no device or number of threads changes."""
    while rows.shape[1] > 1:
        rows = functional.pad(rows, (0, rows.shape[1] % 2))
        rows = rows[:, 0::2] + rows[:, 1::2]
    return rows[:, 0]
