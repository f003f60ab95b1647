"""What must hold for every accelerator, network and candidate."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.dataflows import DATAFLOW_CHOICES
from emomc.hardware.description import Hardware, Memory, OperationalArray, Precision
from emomc.hardware.energy import estimate_energy
from emomc.hardware.mac_energy import BilinearMac
from emomc.hardware.workload import OtherZeros, Workload
from emomc.hardware.zero_skipping import ZeroSkipping
from emomc.networks.layers import LayerCall, LayerShape

SOURCES = {"mac": "made up", "memories": "made up"}
SLACK = 1 + 1e-9
costs = st.floats(0.01, 100)
sides = st.integers(1, 12)
zero_kinds = st.one_of(
    st.builds(
        ZeroSkipping, st.sampled_from(["none", "gated", "skipped"]), st.sampled_from(["none", "gated", "skipped"])
    ),
    st.builds(
        ZeroSkipping, st.just("structured"), st.sampled_from(["none", "gated"]), st.sampled_from(["2:4", "channels"])
    ),
)


@st.composite
def hardwares(draw: st.DrawFn) -> Hardware:
    operands = st.lists(st.sampled_from("IWO"), min_size=1, max_size=3, unique=True).map(tuple)
    bandwidth = st.none() | st.floats(1, 1000)
    size = st.none() | st.integers(64, 100_000)

    def memory(name: str, held: tuple[str, ...], bits: int | None, *, per_pe: bool = False) -> Memory:
        word = draw(st.sampled_from([8, 16, 64]))
        return Memory(
            name, held, word, draw(costs), draw(costs), per_pe, size_bits=bits, bw_bits_per_cycle=draw(bandwidth)
        )

    memories = []
    if draw(st.booleans()):
        memories.append(memory("register", draw(operands), draw(st.none() | st.integers(8, 512)), per_pe=True))
    if draw(st.booleans()):
        memories.append(memory("buffer", draw(operands), draw(size)))
    memories.append(memory("sram", ("I", "W", "O"), draw(size)))
    if draw(st.booleans()):
        memories.append(memory("dram", ("I", "W", "O"), None))
    sizes = draw(st.none() | st.tuples(st.integers(1, 20), st.integers(1, 20)))
    array = OperationalArray(sizes, BilinearMac(draw(costs), draw(costs)), draw(st.floats(0.1, 4)))
    precision = Precision(draw(st.integers(2, 16)), draw(st.integers(16, 32)))
    return Hardware(
        "mine", "made up", "mac16", "reuse", precision, array, tuple(memories), draw(zero_kinds), sources=SOURCES
    )


@st.composite
def some_layers(draw: st.DrawFn) -> LayerShape:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kind = draw(st.sampled_from(["conv", "conv", "linear", "conv_transpose"]))
    if kind == "linear":
        call = LayerCall((1, draw(st.integers(1, 4))), (1, draw(st.integers(1, 4))))
        return LayerShape("layer", "linear", draw(st.integers(1, 60)), draw(st.integers(1, 60)), (call,))
    groups = draw(st.integers(1, 3))
    c, k = draw(st.integers(1, 20)) * groups, draw(st.integers(1, 20)) * groups
    calls = [LayerCall((draw(sides), draw(sides)), (draw(sides), draw(sides))) for _ in range(draw(st.integers(1, 2)))]
    return LayerShape("layer", kind, c, k, tuple(calls), draw(pair), draw(pair), draw(pair), groups)


networks = st.lists(some_layers(), min_size=1, max_size=4)


class Candidates:
    """Rows of bits and densities, and whatever else a workload may say, all at random."""

    def __init__(self, layers: list[LayerShape], seed: int, rows: int = 3) -> None:
        self.layers = layers
        self.generator = np.random.default_rng(seed)
        self.shape = (rows, len(layers))
        self.arrays = {
            "bits": self.generator.integers(1, 31, self.shape).astype(float),
            "density": self.generator.random(self.shape),
            "structured_density": self.generator.random(self.shape),
            "input_density": self.generator.random(self.shape),
        }

    def workload(self, **changed: object) -> Workload:
        arrays: dict[str, Any] = {**self.arrays, **changed}
        zeros = OtherZeros(arrays.pop("structured_density"), arrays.pop("input_density"))
        return Workload(self.layers, **arrays, other_zeros=zeros)

    def more_of(self, name: str) -> Workload:
        """The same candidates, but for one array, which nowhere falls."""
        array = self.arrays[name]
        more = array + (1 - array) * self.generator.random(self.shape)
        if name == "bits":
            more = array + self.generator.integers(0, 2, self.shape)
        return self.workload(**{name: more})


seeds = st.integers(0, 2**32 - 1)
dataflows = st.sampled_from(DATAFLOW_CHOICES)
varied = st.sampled_from(["bits", "density", "structured_density", "input_density"])


@settings(max_examples=60, deadline=None)
@given(hardwares(), networks, seeds, dataflows, varied)
def test_energy_never_falls_as_bits_and_densities_rise(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str, name: str
) -> None:
    candidates = Candidates(layers, seed)
    less = estimate_energy(candidates.workload(), dataflow=dataflow, hardware=hardware)
    more = estimate_energy(candidates.more_of(name), dataflow=dataflow, hardware=hardware)
    assert np.all(more * SLACK >= less)


@settings(max_examples=60, deadline=None)
@given(hardwares(), networks, seeds, dataflows)
def test_costs_are_positive_and_finite(hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str) -> None:
    workload = Candidates(layers, seed).workload()
    energy = estimate_energy(workload, dataflow=dataflow, hardware=hardware)
    cycles = estimate_cycles(workload, dataflow=dataflow, hardware=hardware)
    assert np.all(np.isfinite(energy) & (energy > 0))
    assert np.all(np.isfinite(cycles) & (cycles > 0))


@settings(max_examples=40, deadline=None)
@given(hardwares(), networks, seeds, dataflows)
def test_dense_hardware_does_not_see_density(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str
) -> None:
    dense = dataclasses.replace(hardware, zero_skipping=ZeroSkipping("none", "none"))
    candidates = Candidates(layers, seed)
    coded = candidates.generator.integers(0, 10_000, candidates.shape)
    for estimate in (estimate_energy, estimate_cycles):
        pruned = estimate(candidates.workload(coded_bits=coded), dataflow=dataflow, hardware=dense)
        everything = Workload(layers, candidates.arrays["bits"], np.ones(candidates.shape))
        np.testing.assert_array_equal(pruned, estimate(everything, dataflow=dataflow, hardware=dense))


@settings(max_examples=40, deadline=None)
@given(hardwares(), networks, seeds, st.sampled_from([*DATAFLOW_CHOICES]), st.sampled_from("WI"))
def test_gating_saves_energy_and_skipping_time_too(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str, operand: str
) -> None:
    workload = Candidates(layers, seed).workload()
    kinds = [
        dataclasses.replace(ZeroSkipping("none", "none"), **{operand: kind}) for kind in ("none", "gated", "skipped")
    ]
    described = [dataclasses.replace(hardware, zero_skipping=kind) for kind in kinds]
    none, gated, skipped = (estimate_energy(workload, dataflow=dataflow, hardware=one) for one in described)
    assert np.all(gated < none)
    assert np.all(skipped <= gated * SLACK)
    if dataflow in ("xy", "icoc"):
        steps = [estimate_cycles(workload, dataflow=dataflow, hardware=without_bandwidths(one)) for one in described]
        np.testing.assert_array_equal(steps[0], steps[1])
        assert np.all(steps[2] <= steps[1] * SLACK)


def without_bandwidths(hardware: Hardware) -> Hardware:
    memories = tuple(dataclasses.replace(memory, bw_bits_per_cycle=None) for memory in hardware.memories)
    return dataclasses.replace(hardware, memories=memories)


@settings(max_examples=30, deadline=None)
@given(hardwares(), networks, seeds, dataflows)
def test_structured_hardware_gains_from_its_pattern_alone(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str
) -> None:
    two_of_four = dataclasses.replace(hardware, zero_skipping=ZeroSkipping("structured", pattern="2:4"))
    candidates = Candidates(layers, seed)

    def energy(**changed: object) -> np.ndarray:
        return estimate_energy(candidates.workload(**changed), dataflow=dataflow, hardware=two_of_four)

    dense = energy(density=np.ones(candidates.shape), structured_density=None)
    np.testing.assert_array_equal(energy(structured_density=None), dense)
    np.testing.assert_array_equal(energy(structured_density=np.full(candidates.shape, 0.51)), dense)
    half = energy(structured_density=np.full(candidates.shape, 0.5))
    assert np.all(half < dense)
    np.testing.assert_array_equal(energy(structured_density=np.full(candidates.shape, 0.1)), half)


@settings(max_examples=40, deadline=None)
@given(hardwares(), networks, seeds, dataflows)
def test_twice_every_energy_is_twice_the_total(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str
) -> None:
    workload = Candidates(layers, seed).workload()
    array = hardware.operational_array
    assert isinstance(array.mac, BilinearMac)
    mac = BilinearMac(2 * array.mac.per_bit2, 2 * array.mac.add)
    memories = tuple(
        dataclasses.replace(memory, r_cost=2 * (memory.r_cost or 0), w_cost=2 * (memory.w_cost or 0))
        for memory in hardware.memories
    )
    twice = dataclasses.replace(hardware, operational_array=dataclasses.replace(array, mac=mac), memories=memories)
    np.testing.assert_allclose(
        estimate_energy(workload, dataflow=dataflow, hardware=twice),
        2 * estimate_energy(workload, dataflow=dataflow, hardware=hardware),
        rtol=1e-9,
    )


@settings(max_examples=60, deadline=None)
@given(hardwares(), networks, seeds, dataflows, varied)
def test_cycles_never_fall_as_bits_and_densities_rise(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str, name: str
) -> None:
    candidates = Candidates(layers, seed)
    less, more = (
        estimate_cycles(workload, dataflow=dataflow, hardware=hardware, aim="latency").sum(axis=1)
        for workload in (candidates.workload(), candidates.more_of(name))
    )
    assert np.all(more * SLACK >= less)


@settings(max_examples=60, deadline=None)
@given(hardwares(), networks, seeds, dataflows, st.integers(0, 20), st.floats(0.01, 100))
def test_energy_never_falls_as_an_access_costs_more(
    hardware: Hardware, layers: list[LayerShape], seed: int, dataflow: str, which: int, more: float
) -> None:
    workload = Candidates(layers, seed).workload()
    dearer = dearer_at(hardware, which, more)
    before, after = (
        estimate_energy(workload, dataflow=dataflow, hardware=one, aim="energy") for one in (hardware, dearer)
    )
    assert np.all(after * SLACK >= before)


def dearer_at(hardware: Hardware, which: int, more: float) -> Hardware:
    """The same hardware, of which one number costs more: a read or write of a memory, or what a MAC takes."""
    array, memories = hardware.operational_array, list(hardware.memories)
    assert isinstance(array.mac, BilinearMac)
    place, kind = divmod(which % (2 * len(memories) + 2), 2)
    if place == len(memories):
        names = ("per_bit2", "add")
        mac = dataclasses.replace(array.mac, **{names[kind]: getattr(array.mac, names[kind]) + more})
        return dataclasses.replace(hardware, operational_array=dataclasses.replace(array, mac=mac))
    name = ("r_cost", "w_cost")[kind]
    memories[place] = dataclasses.replace(memories[place], **{name: getattr(memories[place], name) + more})
    return dataclasses.replace(hardware, memories=tuple(memories))


@settings(max_examples=60, deadline=None)
@given(hardwares(), networks, seeds, dataflows, st.integers(0, 3), st.integers(1, 50_000), st.floats(1, 1000))
def test_a_larger_or_faster_memory_never_costs_more(
    hardware: Hardware,
    layers: list[LayerShape],
    seed: int,
    dataflow: str,
    which: int,
    bits: int,
    speed: float,
) -> None:
    workload = Candidates(layers, seed).workload()
    place = which % len(hardware.memories)
    memory = hardware.memories[place]
    size, bandwidth = memory.size_bits, memory.bw_bits_per_cycle
    larger = dataclasses.replace(memory, size_bits=None if size is None else size + bits)
    faster = dataclasses.replace(memory, bw_bits_per_cycle=None if bandwidth is None else bandwidth + speed)
    for changed, aim, estimate in (
        (larger, "energy", estimate_energy),
        (larger, "latency", estimate_cycles),
        (faster, "latency", estimate_cycles),
    ):
        memories = (*hardware.memories[:place], changed, *hardware.memories[place + 1 :])
        better = dataclasses.replace(hardware, memories=memories)
        before, after = (
            estimate(workload, dataflow=dataflow, hardware=one, aim=aim).reshape(len(workload.bits), -1).sum(axis=1)
            for one in (hardware, better)
        )
        assert np.all(after <= before * SLACK), (aim, changed)
