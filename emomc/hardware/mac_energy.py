"""Energy of one multiply-accumulate (MAC) as a function of its operand widths, one class per model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from emomc.common.fields import (
    FieldError,
    Problems,
    build,
    check_count,
    check_number,
    is_count,
    require_mapping,
    require_number,
    show,
)

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class AffineMac:
    """MAC energy that is linear in the weight bits and does not depend on the activation bits."""

    model: ClassVar[str] = "affine"

    base: float
    """Energy at zero weight bits, pJ or relative units."""
    per_weight_bit: float
    """Energy that each weight bit adds."""

    def __post_init__(self) -> None:
        _check_numbers(self, "base", "per_weight_bit")

    def energy(self, bits: Array, activation_bits: Array | float) -> Array:
        """base + per_weight_bit q. Ignores the activation's bits. Source: the paper, with base = per_weight_bit."""
        return self.base + self.per_weight_bit * bits


@dataclasses.dataclass(frozen=True)
class BilinearMac:
    """MAC energy of an array multiplier, linear in weight bits x activation bits, and a fixed-width adder."""

    model: ClassVar[str] = "bilinear"

    per_bit2: float
    """Energy of the multiplier per weight bit and activation bit."""
    add: float
    """Energy of the addition."""

    def __post_init__(self) -> None:
        _check_numbers(self, "per_bit2", "add")

    def energy(self, bits: Array, activation_bits: Array | float) -> Array:
        """per_bit2 q A + add, for A bits of activation: an array multiplier has q A cells.

        Ignores that wider operands need a wider adder. Source: Horowitz, ISSCC 2014, whose 8-bit and 32-bit multipliers
        it approximates.
        """
        return self.per_bit2 * activation_bits * bits + self.add


@dataclasses.dataclass(frozen=True)
class TableMac:
    """MAC energy of multipliers of fixed widths.

    A weight uses the narrowest multiplier that is wide enough. A weight wider than all of them, or an activation wider
    than ``activation_bits``, is split into slices; each slice costs one operation.
    """

    model: ClassVar[str] = "table"

    activation_bits: int
    """Width of the multipliers' activation input, bits."""
    by_weight_bits: Mapping[int, float] = dataclasses.field(hash=False)
    """Weight bits of a multiplier -> energy of one operation."""

    def __post_init__(self) -> None:
        problems = Problems()
        problems.of(check_count, self, "activation_bits")
        problems.of(self._check_table)
        problems.end()

    def _check_table(self) -> None:
        if not isinstance(self.by_weight_bits, Mapping) or not self.by_weight_bits:
            raise FieldError("by_weight_bits", f"expected energies by weight bits, found {show(self.by_weight_bits)}")
        for bits, energy in self.by_weight_bits.items():
            if not is_count(bits):
                raise FieldError("by_weight_bits", f"expected weight bits (integers >= 1) as keys, found {show(bits)}")
            require_number(f"by_weight_bits.{bits}", energy)

    def energy(self, bits: Array, activation_bits: Array | float) -> Array:
        """Energy of the narrowest multiplier that is wide enough, times the slices of operands that are too wide.

        Ignores the additions that combine slices. Source: ours, for multipliers of fixed widths.
        """
        widths = np.array(sorted(self.by_weight_bits))
        energies = np.array([self.by_weight_bits[int(width)] for width in widths], dtype=np.float64)
        narrowest = np.minimum(np.searchsorted(widths, bits), len(widths) - 1)
        weight_slices = np.ceil(bits / widths[-1]).clip(min=1)
        slices: Array = weight_slices * np.ceil(np.divide(activation_bits, self.activation_bits))
        return energies[narrowest] * slices


Mac = AffineMac | BilinearMac | TableMac
_MAC_MODELS: Mapping[str, type[Mac]] = {kind.model: kind for kind in (AffineMac, BilinearMac, TableMac)}


def build_mac(values: Any) -> Mac | None:
    """Make a model from its description; None for nothing.

    Raises:
        FieldError: it describes no model.
    """
    if values is None:
        return None
    values = dict(require_mapping(values))
    model = values.pop("model", None)
    if not isinstance(model, str) or model not in _MAC_MODELS:
        raise FieldError("model", f"expected one of {', '.join(_MAC_MODELS)}, found {show(model)}")
    return build(_MAC_MODELS[model], values)


def _check_numbers(owner: Mac, *names: str) -> None:
    problems = Problems()
    for name in names:
        problems.of(check_number, owner, name)
    problems.end()
