"""Energy of one multiply-accumulate (MAC) as a function of its operand widths, one function per model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.description import AffineMac, BilinearMac, Mac, TableMac

Array = npt.NDArray[np.float64]


def mac_energy(mac: Mac, bits: Array, activation_bits: int | Array) -> Array:
    """Return the energy of one multiply-accumulate, in the hardware's unit, same shape as ``bits``.

    ``activation_bits`` is one number, or of that shape.
    """
    for kind, formula in _MAC_FORMULAS.items():
        if isinstance(mac, kind):
            return formula(mac, bits, activation_bits)  # type: ignore[operator]
    raise UserError(f"expected a MAC model among affine, bilinear, table, found {type(mac).__name__}")


def affine_mac(mac: AffineMac, bits: Array, activation_bits: int | Array) -> Array:
    """base + per_weight_bit q. Ignores the activation's bits. Source: the paper, with base = per_weight_bit."""
    return mac.base + mac.per_weight_bit * bits


def bilinear_mac(mac: BilinearMac, bits: Array, activation_bits: int | Array) -> Array:
    """per_bit2 q A + add, for A bits of activation: an array multiplier has q A cells.

    Ignores that wider operands need a wider adder. Source: Horowitz, ISSCC 2014, whose 8-bit and 32-bit multipliers it
    approximates.
    """
    return mac.per_bit2 * activation_bits * bits + mac.add


def table_mac(mac: TableMac, bits: Array, activation_bits: int | Array) -> Array:
    """Energy of the narrowest multiplier that is wide enough, times the number of slices of operands that are too wide.

    Ignores the additions that combine slices. Source: ours, for multipliers of fixed widths.
    """
    widths = np.array(sorted(mac.by_weight_bits))
    energies = np.array([mac.by_weight_bits[int(width)] for width in widths], dtype=np.float64)
    narrowest = np.minimum(np.searchsorted(widths, bits), len(widths) - 1)
    weight_slices = np.ceil(bits / widths[-1]).clip(min=1)
    return energies[narrowest] * weight_slices * np.ceil(activation_bits / mac.activation_bits)


_MAC_FORMULAS = {AffineMac: affine_mac, BilinearMac: bilinear_mac, TableMac: table_mac}
