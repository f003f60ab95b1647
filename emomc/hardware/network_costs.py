"""What a population takes on what it runs on: every cost that is known there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emomc.hardware.cycles import cycles_to_ms, estimate_cycles
from emomc.hardware.description import Hardware, Target
from emomc.hardware.energy import estimate_energy
from emomc.hardware.measured_costs import measured_costs
from emomc.hardware.workload import Workload

Array = npt.NDArray[np.float64]

ENERGY_COLUMN, CYCLES, LATENCY_MS = "energy", "cycles", "latency_ms"


def network_costs(workload: Workload, *, dataflow: str, hardware: Target, aim: str) -> dict[str, Array]:
    """Return what one image takes, each cost of shape (n,).

    Args:
        workload: the candidates.
        dataflow: see ``estimate_energy``; a device that was measured has one of its own.
        hardware: the accelerator or device.
        aim: what is to be small where there is a choice of mappings.

    Returns:
        Of ``energy`` (in ``hardware.energy_label``), ``cycles`` and ``latency_ms`` those that are known.

    Raises:
        UserError: there is no such dataflow or aim, or a layer was not measured.
    """
    if not isinstance(hardware, Hardware):
        measured = measured_costs(workload, hardware)
        costs = {} if measured.mj is None else {ENERGY_COLUMN: measured.mj.sum(axis=1)}
        return costs | {LATENCY_MS: measured.ms.sum(axis=1)}
    on = {"dataflow": dataflow, "aim": aim}
    costs = {ENERGY_COLUMN: estimate_energy(workload, hardware=hardware, **on)} if hardware.has_energy else {}
    costs[CYCLES] = estimate_cycles(workload, hardware=hardware, **on).sum(axis=1)
    if hardware.has_milliseconds:
        costs[LATENCY_MS] = cycles_to_ms(costs[CYCLES], hardware)
    return costs
