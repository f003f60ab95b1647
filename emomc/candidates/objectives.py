"""The objectives of a search, by name, and the entries of a front that hold them.

To add one, add an entry to ``OBJECTIVES`` and a column to ``CostModel.costs``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from emomc.hardware.description import Hardware, Target


@dataclasses.dataclass(frozen=True)
class Entry:
    """One number of a point of a front."""

    key: str
    """Its key in front.json, and the column of ``CostModel.costs`` except for relative energies."""
    name: str
    """Its name in a sentence."""
    unit: str
    """Its unit; hardware with relative energies has its own unit in place of that of ``energy_mj``."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """A quantity that a search minimises, or maximises (the accuracy)."""

    name: str
    """Name on the command line."""
    entries: tuple[Entry, ...]
    """Its possible entries: a front uses the first one that it has."""


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("accuracy", (Entry("validation_accuracy", "validation accuracy", ""),)),
        Objective("energy", (Entry("energy_mj", "energy", "mJ"),)),
        Objective("size", (Entry("size_kib", "size", "KiB"),)),
        # Milliseconds are known where the hardware has a clock.
        Objective("latency", (Entry("latency_ms", "latency", "ms"), Entry("cycles", "cycles", "cycles"))),
    )
}
"""Name -> objective; every search has the first one, which alone is maximised."""

ACCURACY = "accuracy"
COST_OBJECTIVES = tuple(name for name in OBJECTIVES if name != ACCURACY)
"""Names of the objectives that are minimised, and that a constraint can bound."""

COSTS: Mapping[str, Entry] = {entry.key: entry for name in COST_OBJECTIVES for entry in OBJECTIVES[name].entries}
"""Key in front.json -> the entry of each cost that a point may have."""


def known_costs(hardware: Target) -> list[str]:
    """Return the keys in front.json of the costs that are known of hardware."""
    known = {
        "energy_mj": hardware.has_energy,
        "latency_ms": hardware.has_milliseconds,
        "cycles": isinstance(hardware, Hardware),
    }
    return [key for key in COSTS if known.get(key, True)]


if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[tuple(OBJECTIVES)]
