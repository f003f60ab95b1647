"""Which feature maps stay in an on-chip memory between the layers.

Source: ours. The rule is one that no larger memory can make worse: a map that waits stays only where it takes no room
from the layers that run meanwhile.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from emomc.hardware.call_table import CallTable
from emomc.networks.feature_maps import MapSchedule

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def staying_maps(schedule: MapSchedule, map_bits: Array, room_bits: float) -> Flags:
    """Return which maps stay in a memory from the step that makes them to the last that reads them.

    A map stays if there is room in every step of its life: where it is read or made, for all that the step reads and
    makes; where it waits, for that, for itself, and for every other map that waits and is not larger. Weights, and what
    streams through, take no room. The image and the answer come from outside and go there: they never stay.

    Args:
        schedule: the maps and steps.
        map_bits: bits of each map, shape (maps,).
        room_bits: of the memory.

    Returns:
        Shape (maps,); a larger memory never keeps fewer.
    """
    used, alive = _used_and_alive(schedule)
    crosses = np.array([one.crosses for one in schedule.maps])
    order = np.argsort(map_bits, kind="stable")
    waiting = np.where(alive & ~used & ~crosses, map_bits, 0.0)
    needed = np.empty_like(waiting)
    needed[:, order] = np.cumsum(waiting[:, order], axis=1)
    needed = np.where(used, 0.0, needed) + np.where(used, map_bits, 0.0).sum(axis=1)[:, None]
    fits: Flags = np.all((needed <= room_bits) | ~alive, axis=0)
    return fits & ~crosses


def peak_bits(schedule: MapSchedule, map_bits: Array) -> float:
    """Return the bits of the maps that are needed at the same time, at the step that needs most."""
    _, alive = _used_and_alive(schedule)
    return float((alive * map_bits).sum(axis=1).max(initial=0.0))


def _used_and_alive(schedule: MapSchedule) -> tuple[Flags, Flags]:
    """Return which maps each step uses, and which are needed while it runs, each of shape (steps, maps)."""
    steps = np.arange(len(schedule.steps))[:, None]
    used = np.zeros((len(schedule.steps), len(schedule.maps)), dtype=np.bool_)
    for number, step in enumerate(schedule.steps):
        used[number, list(step.uses)] = True
    made = np.array([one.made for one in schedule.maps])
    last = np.array([one.last for one in schedule.maps])
    alive = (steps >= made) & (steps <= last)
    return used, alive


@dataclasses.dataclass(frozen=True)
class Staying:
    """What stays in a memory, by layer call; and what moves beside the calls take from further out and send there.

    The moves are poolings, additions and the like, charged to the first call of the layer before them. All of shape
    (calls,).
    """

    inputs: Flags
    outputs: Flags
    weights: Flags
    """Only the second map of a product can stay; other weights come from outside for every image."""
    moves_fetch: Array
    """Values that moves read of maps that do not stay."""
    moves_send: Array
    """Values that moves make of maps that do not stay."""


def staying(calls: CallTable, schedule: MapSchedule | None, stays: Flags | None) -> Staying:
    """Bring what stays to the calls of the layers.

    Args:
        calls: all calls of all layers.
        schedule: the maps; None: they are not known, and no map stays.
        stays: which maps do, shape (maps,).
    """
    count = len(calls.layer)
    inputs, outputs, weights = (np.zeros(count, dtype=np.bool_) for _ in range(3))
    if schedule is None or stays is None:
        return Staying(inputs, outputs, weights, np.zeros(count), np.zeros(count))
    first_call = np.searchsorted(calls.layer, np.arange(int(calls.layer[-1]) + 1))
    for step in schedule.steps:
        rows = first_call[step.layer] + np.array(step.calls, dtype=np.intp)
        inputs[rows] = stays[step.reads[0]]
        outputs[rows] = stays[step.makes]
        weights[rows] = step.weights is not None and stays[step.weights]
    return Staying(inputs, outputs, weights, *moved_values(calls, schedule, ~stays))


def moved_values(calls: CallTable, schedule: MapSchedule | None, counted: Flags | None = None) -> tuple[Array, Array]:
    """Return how many values the moves after each call read and make, each of shape (calls,).

    Args:
        calls: all calls of all layers.
        schedule: the maps; None: they are not known, and nothing moves.
        counted: the maps that count, shape (maps,); None: all.
    """
    read, made = np.zeros(len(calls.layer)), np.zeros(len(calls.layer))
    if schedule is None:
        return read, made
    values = np.array([one.values for one in schedule.maps], dtype=np.float64)
    if counted is not None:
        values = values * counted
    first_call = np.searchsorted(calls.layer, np.arange(int(calls.layer[-1]) + 1))
    for step in schedule.steps:
        if not step.calls:
            read[first_call[step.layer]] += values[list(step.reads)].sum()
            made[first_call[step.layer]] += values[step.makes]
    return read, made
