"""How long one step of an array takes where it depends on the widths of the operands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from emomc.common.fields import FieldError, Problems, is_count, require_number, show

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class CyclesByBits:
    """Cycles of a step by the bits of inputs and weights, for processors with kernels of fewer than 8 bits.

    Operands take the narrowest widths that are wide enough; wider ones than all are split into slices, each of which
    takes a step. Ignores the additions that combine slices.
    """

    table: Mapping[int, Mapping[int, float]] = dataclasses.field(hash=False)
    """Bits of an input -> bits of a weight -> cycles; the same weights for all inputs."""

    def __post_init__(self) -> None:
        if not isinstance(self.table, Mapping) or not self.table:
            raise FieldError("", f"expected cycles by bits of inputs and weights, found {show(self.table)}")
        problems = Problems()
        for bits, row in self.table.items():
            problems.of(_check_row, row, next(iter(self.table.values())), inside=str(bits))
            if not is_count(bits):
                problems.of(_refuse_bits, bits)
        problems.end()

    def cycles(self, bits: Array, input_bits: Array | float) -> Array:
        """Return the cycles of a step, of the shape of ``bits``, (n, calls)."""
        inputs = sorted(self.table)
        weights = sorted(self.table[inputs[0]])
        table = np.array([[self.table[row][column] for column in weights] for row in inputs], dtype=np.float64)
        row, input_slices = _narrowest(inputs, np.broadcast_to(input_bits, bits.shape))
        column, weight_slices = _narrowest(weights, bits)
        found: Array = table[row, column] * input_slices * weight_slices
        return found


def _check_row(row: object, first: object) -> None:
    if not isinstance(row, Mapping) or not row:
        raise FieldError("", f"expected cycles by bits of weights, found {show(row)}")
    if not isinstance(first, Mapping) or {*row} != {*first}:
        raise FieldError("", f"expected the same bits of weights for all inputs, found {', '.join(map(str, row))}")
    problems = Problems()
    for bits, cycles in row.items():
        if not is_count(bits):
            problems.of(_refuse_bits, bits)
        problems.of(require_number, str(bits), cycles, positive=True)
    problems.end()


def _refuse_bits(bits: object) -> None:
    raise FieldError("", f"expected bits (integers >= 1) as keys, found {show(bits)}")


def _narrowest(widths: list[int], bits: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Return the position of the narrowest width that is enough, and into how many slices of it operands are split."""
    place = np.minimum(np.searchsorted(widths, bits), len(widths) - 1)
    return place, np.ceil(bits / widths[-1]).clip(min=1)
