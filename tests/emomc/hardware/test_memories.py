"""Memories of finite size: what stays in them, and what does not fit."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.dataflows import DATAFLOW_CHOICES
from emomc.hardware.description import Hardware, Memory, OperationalArray, Precision
from emomc.hardware.energy import energy_breakdown, estimate_energy
from emomc.hardware.mac_energy import AffineMac
from emomc.hardware.residency import peak_bits, staying_maps
from emomc.hardware.tiling import Loads, tilings
from emomc.hardware.workload import Workload
from emomc.networks.feature_maps import FeatureMap, MapSchedule, MapStep
from emomc.networks.layers import LayerCall, LayerShape

SOURCES = {"mac": "made up", "memories": "made up"}
ALL = ("I", "W", "O")


def hardware(size_bits: int | None, *, registers: bool = True) -> Hardware:
    register = [Memory("register", ALL, 8, 0.5, 0.5, per_pe=True)] if registers else []
    memories = (
        *register,
        Memory("sram", ALL, 8, 2.0, 3.0, size_bits=size_bits, bw_bits_per_cycle=64.0),
        Memory("dram", ALL, 8, 100.0, 100.0, bw_bits_per_cycle=8.0),
    )
    array = OperationalArray((4, 4), AffineMac(1.0, 0.0))
    return Hardware("mine", "made up", "mac16", "reuse", Precision(8, 16), array, memories, sources=SOURCES)


def conv(name: str, c: int, k: int, side: int) -> LayerShape:
    return LayerShape(name, "conv", c, k, (LayerCall((side, side), (side, side)),), (3, 3))


# image -> conv -> a -> conv -> b -> conv -> c; a + c -> d -> conv -> answer.
LAYERS = [conv("one", 1, 4, 8), conv("two", 4, 8, 8), conv("three", 8, 4, 8), conv("four", 4, 2, 8)]
BRANCH = MapSchedule(
    maps=(
        FeatureMap(64, -1, 0),
        FeatureMap(256, 0, 3),
        FeatureMap(512, 1, 2),
        FeatureMap(256, 2, 3),
        FeatureMap(256, 3, 4),
        FeatureMap(128, 4, 5, outlasts=True),
    ),
    steps=(
        MapStep(0, (0,), (0,), 1),
        MapStep(1, (0,), (1,), 2),
        MapStep(2, (0,), (2,), 3),
        MapStep(2, (), (1, 3), 4),
        MapStep(3, (0,), (4,), 5),
    ),
)
VALUES = np.array([one.values for one in BRANCH.maps], dtype=float)


@pytest.mark.parametrize(
    ("room", "stays"),
    [
        # The third step needs b, c and the waiting a: 512 + 256 + 256; the addition a, c and d: 768.
        (1024, [0, 1, 1, 1, 1, 0]),
        (1023, [0, 0, 1, 1, 1, 0]),
        (768, [0, 0, 1, 1, 1, 0]),
        (767, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_map_that_waits_for_a_branch_stays_where_there_is_room(room: int, stays: list[int]) -> None:
    assert staying_maps(BRANCH, VALUES, room).tolist() == [bool(one) for one in stays]
    assert peak_bits(BRANCH, VALUES) == 1024


def dram(size_bits: int | None, maps: MapSchedule | None, layers: list[LayerShape] = LAYERS) -> np.ndarray:
    ones = np.ones((1, len(layers)))
    workload = Workload(layers, 8 * ones, ones, maps=maps)
    return energy_breakdown(workload, dataflow="xy", hardware=hardware(size_bits)).dram[0]


def test_maps_that_stay_do_not_travel_to_dram() -> None:
    weights = np.array([36, 288, 288, 72])
    # The image comes from DRAM and the answer goes there.
    np.testing.assert_allclose(dram(8 * 1024, BRANCH), 100 * (weights + np.array([64, 0, 0, 128])))
    # Without room for a: layer one sends it, layer two and the addition, charged to layer three, fetch it.
    np.testing.assert_allclose(dram(8 * 1023, BRANCH), 100 * (weights + np.array([64 + 256, 256, 256, 128])))
    # Nothing is known of the maps: all travel, and the addition is not counted.
    np.testing.assert_allclose(
        dram(None, None), 100 * (weights + np.array([64 + 256, 256 + 512, 512 + 256, 256 + 128]))
    )


def test_additions_and_poolings_are_traffic() -> None:
    ones = np.ones((1, 4))
    on = {"dataflow": "xy", "hardware": hardware(None)}
    with_maps = energy_breakdown(Workload(LAYERS, 8 * ones, ones, maps=BRANCH), **on)
    moveless = dataclasses.replace(BRANCH, steps=tuple(step for step in BRANCH.steps if step.calls))
    without = energy_breakdown(Workload(LAYERS, 8 * ones, ones, maps=moveless), **on)
    # Two maps of 256 values are read, one is written.
    assert (with_maps.input - without.input)[0].tolist() == pytest.approx([0, 0, 2 * 256 * 2, 0])
    assert (with_maps.output - without.output)[0].tolist() == pytest.approx([0, 0, 256 * 3, 0])
    cycles = estimate_cycles(Workload(LAYERS, 8 * ones, ones, maps=BRANCH), **on)
    fewer = estimate_cycles(Workload(LAYERS, 8 * ones, ones, maps=moveless), **on)
    assert (cycles - fewer)[0].tolist() == pytest.approx([0, 0, 3 * 256 * 8 / 64, 0])


def test_what_does_not_fit_passes_as_often_as_its_tiles_need() -> None:
    # 512 inputs, 288 weights, 256 partial sums of 2 bytes. One pass of each where one of them fits.
    once = 100 * (512 + 288 + 256)
    layer = [LAYERS[2]]
    assert dram(8 * 288, None, layer)[0] == pytest.approx(once)
    # 287 bytes: two tiles of the weights make the inputs pass twice; two of the inputs, the weights: cheaper. Two tiles
    # of the sums likewise.
    assert dram(8 * 287, None, layer)[0] == pytest.approx(once + 100 * 288)
    # 128 bytes: four tiles of the inputs or of the sums; these as 2 x 2: 512 + 288 more, or 1 x 4: 3 x 288.
    assert dram(8 * 128, None, layer)[0] == pytest.approx(once + 100 * (512 + 288))


@pytest.mark.parametrize(
    ("room", "passes"),
    [
        (1000.0, [(1, 1)]),
        (50.0, [(1, 2), (3, 1), (1, 4), (2, 2), (4, 1)]),
    ],
)
def test_tilings(room: float, passes: list[tuple[int, int]]) -> None:
    loads = Loads(*(np.array([value]) for value in (90.0, 120.0, 200.0, 16.0, 8.0)))
    found = tilings(loads, room, room, room)
    assert [(one.inputs.item(), one.weights.item()) for one in found] == passes


chains = st.lists(st.integers(1, 12), min_size=2, max_size=5)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[LayerShape], MapSchedule]:
    """A chain of layers in which some maps wait for later additions."""
    channels, side = draw(chains), draw(st.integers(1, 8))
    layers, maps, steps = [], [FeatureMap(channels[0] * side**2, -1, 0)], []
    current = 0
    for c, k in itertools.pairwise(channels):
        steps.append(MapStep(len(layers), (0,), (current,), len(maps)))
        layers.append(conv(f"layer{len(layers)}", c, k, side))
        maps.append(FeatureMap(k * side**2, len(steps) - 1, len(steps) - 1))
        current = len(maps) - 1
        if draw(st.booleans()):
            other = draw(st.integers(0, current))
            steps.append(MapStep(len(layers) - 1, (), (current, other), len(maps)))
            maps.append(FeatureMap(maps[current].values, len(steps) - 1, len(steps) - 1))
            current = len(maps) - 1
    last = {index: number for number, step in enumerate(steps) for index in step.reads}
    known = [
        dataclasses.replace(one, last=last.get(index, len(steps)), outlasts=index == current)
        for index, one in enumerate(maps)
    ]
    return layers, MapSchedule(tuple(known), tuple(steps))


@settings(max_examples=80, deadline=None)
@given(
    schedules(),
    st.integers(8, 60_000),
    st.integers(0, 60_000),
    st.sampled_from(DATAFLOW_CHOICES),
    st.booleans(),
    st.data(),
)
def test_a_larger_memory_never_costs_more(
    network: tuple[list[LayerShape], MapSchedule],
    size: int,
    more: int,
    dataflow: str,
    registers: bool,
    data: st.DataObject,
) -> None:
    layers, maps = network
    bits = np.array([data.draw(st.lists(st.integers(1, 16), min_size=len(layers), max_size=len(layers)))])
    workload = Workload(layers, bits, np.ones(bits.shape), maps=maps)
    for aim, estimate in (("energy", estimate_energy), ("latency", estimate_cycles)):
        small, large = (
            estimate(workload, dataflow=dataflow, hardware=hardware(bits, registers=registers), aim=aim).sum()
            for bits in (size, size + more)
        )
        assert large <= small * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(schedules(), st.floats(0, 20_000), st.floats(0, 5_000))
def test_a_larger_memory_never_keeps_fewer_maps(
    network: tuple[list[LayerShape], MapSchedule], room: float, more: float
) -> None:
    _, maps = network
    values = np.array([one.values for one in maps.maps], dtype=float)
    few, many = staying_maps(maps, values, room), staying_maps(maps, values, room + more)
    assert np.all(many >= few)
    # What stays fits, whatever else waits.
    for number in range(len(maps.steps)):
        kept = [one for one, stays in zip(maps.maps, few, strict=True) if stays and one.made <= number <= one.last]
        assert sum(one.values for one in kept) <= room
