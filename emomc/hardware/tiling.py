"""How often the operands of a layer pass into a memory that does not hold all of them.

Source: the classic analysis of blocked loops, as in Yang et al., "Interstellar: Using Halide's Scheduling Language to
Analyze DNN Accelerators", ASPLOS 2020. One operand is cut into tiles that fill the memory; each tile stays until it is
no longer needed, and the other two stream by, which takes no room. So the operand that stays passes once, and

- input-stationary, the weights pass once per tile of the inputs;
- weight-stationary, the inputs pass once per tile of the weights, which are cut by output channels;
- output-stationary, a x b tiles (channels x positions) of the partial sums make the inputs pass a times, the weights
  b times.

Outputs leave once, complete. Rows that neighbouring tiles of the input share are kept.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Passes:
    """How often the operands pass, in one tiling; of shapes that broadcast to (n, calls), 1 or more."""

    inputs: Array
    weights: Array


@dataclasses.dataclass(frozen=True)
class Loads:
    """What one group of a layer brings, in bits; of shapes that broadcast to (n, calls)."""

    inputs: Array
    weights: Array
    partial_sums: Array
    positions: Array
    """Output positions: the most tiles of the inputs."""
    channels: Array
    """Output channels: the most tiles of the weights."""

    def of(self, chosen: Flags) -> Loads:
        """Return the loads of some calls; all arrays have to have a column of each call."""
        return Loads(**{name: array[..., chosen] for name, array in vars(self).items()})


def tilings(loads: Loads, room_for_inputs: float, room_for_weights: float, room_for_sums: float) -> list[Passes]:
    """Return the tilings to choose from.

    In each, more bits never make an operand pass less often, and more room never more often.

    Args:
        loads: of one group of each call.
        room_for_inputs: bits of the memory of the inputs; the next two likewise.
        room_for_weights: bits.
        room_for_sums: bits.
    """
    once = np.ones(1)
    input_tiles = _tiles(loads.inputs, room_for_inputs, loads.positions)
    weight_tiles = _tiles(loads.weights, room_for_weights, loads.channels)
    found = [Passes(once, input_tiles), Passes(weight_tiles, once)]
    sum_tiles = np.ceil(loads.partial_sums / room_for_sums)
    if np.all(sum_tiles <= 1):
        return [Passes(once, once)]
    most = float(np.minimum(sum_tiles, loads.channels).max())
    for a in 2.0 ** np.arange(np.ceil(np.log2(max(most, 1.0))) + 1):
        by_channels = np.minimum(a, loads.channels)
        # A map cut into single outputs needs no further tiles.
        found.append(Passes(by_channels, np.minimum(np.ceil(sum_tiles / by_channels), loads.positions).clip(1)))
    return found


def open_calls(loads: Loads, room_for_inputs: float, room_for_weights: float, room_for_sums: float) -> Flags:
    """Return for which calls no operand fits as a whole, for some candidate, shape (calls,); the others pass once."""
    fits = (loads.inputs <= room_for_inputs) | (loads.partial_sums <= room_for_sums)
    return ~np.all(fits | (loads.weights <= room_for_weights), axis=0)


def _tiles(bits: Array, room_bits: float, most: Array) -> Array:
    return np.minimum(np.ceil(bits / room_bits), most).clip(1)
