"""Estimate the cycles and milliseconds of a population of compressed networks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.choice import choose
from emomc.hardware.description import Hardware
from emomc.hardware.mapping import ENERGY
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]


def estimate_cycles(workload: Workload, *, dataflow: str, hardware: Hardware, aim: str = ENERGY) -> Array:
    """Return the cycles of each layer for one image, shape (n, layers); their sum is the network's.

    ``Mapping.cycles`` has the formula. With the aim ``latency``, cycles never fall as bits or densities rise; with
    another they may, where another mapping becomes the better one.

    Args:
        workload: the candidates.
        dataflow: a name of ``DATAFLOWS``, ``best`` or ``best_per_layer``.
        hardware: the accelerator.
        aim: what is to be small where there is a choice of mappings: ``energy``, ``latency`` or their ``product``.

    Raises:
        UserError: there is no such dataflow or aim.
    """
    expanded = CallWorkload.of(workload, hardware)
    cycles = np.empty((len(expanded.bits), len(workload.layers)))
    for rows, block in expanded.blocks():
        choice = choose(block, dataflow, aim)
        cycles[rows] = choice.per_layer([mapping.cycles for mapping in choice.mappings])
    return cycles


def cycles_to_ms(cycles: Array, hardware: Hardware) -> Array:
    """Convert cycles to milliseconds.

    Raises:
        UserError: the hardware has no ``clock_mhz``.
    """
    if hardware.clock_mhz is None:
        raise UserError(f"expected a hardware with clock_mhz for a latency, found none in {hardware.name}")
    return cycles / (hardware.clock_mhz * 1e3)
