from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.compression.codings import CODINGS, PAPER_CODINGS
from emomc.hardware.cycles import cycles_to_ms, estimate_cycles
from emomc.hardware.dataflows import DATAFLOWS, dataflow_label, dataflows_named
from emomc.hardware.description import load_hardware, preset_names
from emomc.hardware.energy import ENERGY_PARTS, energy_breakdown, estimate_energy
from emomc.hardware.mac_energy import AffineMac, BilinearMac, TableMac
from emomc.hardware.size import estimate_size, estimate_size_bits
from emomc.hardware.workload import Workload
from emomc.hardware.zero_skipping import ZeroSkipping
from emomc.networks.layers import LayerCall, LayerShape

WITH_ENERGY = [name for name in preset_names() if load_hardware(name).has_energy]

FPGA = load_hardware("emomc_fpga")


def conv(
    in_channels: int,
    out_channels: int,
    output_side: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    input_side: int | None = None,
) -> LayerShape:
    side = output_side * stride if input_side is None else input_side
    call = LayerCall((side, side), (output_side, output_side))
    return LayerShape(
        "conv", "conv", in_channels, out_channels, (call,), (kernel, kernel), (stride, stride), groups=groups
    )


def linear(in_features: int, out_features: int, positions: int = 1) -> LayerShape:
    return LayerShape("fc", "linear", in_features, out_features, (LayerCall((1, positions), (1, positions)),))


def vgg16() -> list[LayerShape]:
    layers, channels = [], 3
    stages = [(32, [64, 64]), (16, [128, 128]), (8, [256] * 3), (4, [512] * 3), (2, [512] * 3)]
    for side, widths in stages:
        for width in widths:
            layers.append(conv(channels, width, side))
            channels = width
    return [*layers, linear(512, 10)]


def lenet5() -> list[LayerShape]:
    convolutions = [(1, 6, 28, 32), (6, 16, 10, 14), (16, 120, 1, 5)]
    layers = [conv(c, k, side, 5, input_side=input_side) for c, k, side, input_side in convolutions]
    return [*layers, linear(120, 84), linear(84, 10)]


def mobilenet() -> list[LayerShape]:
    layers, channels, side = [conv(3, 32, 32)], 32, 32
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in blocks:
        side //= stride
        layers += [conv(channels, channels, side, 3, stride, groups=channels), conv(channels, width, side, 1)]
        channels = width
    return [*layers, linear(1024, 10)]


def resnet18() -> list[LayerShape]:
    layers, channels, side = [conv(3, 64, 32)], 64, 32
    for width, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        side //= stride
        layers += [conv(channels, width, side, 3, stride), conv(width, width, side)]
        if stride > 1:
            layers.append(conv(channels, width, side, 1, stride))
        channels = width
    return [*layers, linear(512, 10)]


# Uncompressed (32 bits, nothing pruned), from running the published code of the EMOMC paper.
REFERENCE = {
    "lenet5": (lenet5, 5, 240.117, (0.018, 0.022, 0.018, 0.017)),
    "mobilenet": (mobilenet, 28, 12_481.75, (1.948, 2.291, 2.466, 2.569)),
    "vgg16": (vgg16, 14, 57_482.75, (13.045, 15.287, 13.452, 13.345)),
    "resnet18": (resnet18, 21, 43_610.75, (22.909, 27.126, 23.697, 23.252)),
}


def uniform(layers: list[LayerShape], bits: int, density: float) -> tuple[npt.NDArray, npt.NDArray]:
    shape = (1, len(layers))
    return np.full(shape, bits), np.full(shape, density)


@pytest.mark.parametrize("network", REFERENCE)
def test_uncompressed_networks_cost_what_the_published_code_says(network: str) -> None:
    make, count, size_kib, energies_mj = REFERENCE[network]
    layers = make()
    bits, density = uniform(layers, 32, 1.0)
    assert len(layers) == count
    assert estimate_size(Workload(layers, bits, density), coding="normal")[0] == pytest.approx(size_kib, abs=5e-4)
    for dataflow, energy_mj in zip(DATAFLOWS, energies_mj, strict=True):
        energy = estimate_energy(Workload(layers, bits, density), dataflow=dataflow, hardware=FPGA)
        assert energy[0] == pytest.approx(energy_mj, abs=5e-4)


def test_lenet5_under_xy_to_the_digit() -> None:
    layers = lenet5()
    energy = estimate_energy(Workload(layers, *uniform(layers, 32, 1.0)), dataflow="xy", hardware=FPGA)
    assert energy[0] == pytest.approx(0.018004, abs=5e-7)


def published_energy_mj(layers: list[LayerShape], bits: list[int], density: list[float], dataflow: str) -> float:
    """The paper's formulas, written layer by layer with nothing shared with the package."""
    total = 0.0
    for layer, q, p in zip(layers, bits, density, strict=True):
        for call in layer.calls:
            pixels = call.output_size[0] * call.output_size[1]
            c, k = layer.in_channels // layer.groups, layer.out_channels // layer.groups
            kernel, side = layer.kernel_size[0] * layer.kernel_size[1], layer.kernel_size[0]
            macs = kernel * pixels * c * k * layer.groups
            if layer.kind == "linear":
                weight, inputs, outputs, sums = macs, macs * p, layer.out_channels * pixels, 0.0
            elif dataflow == "xy":
                weight, inputs, outputs, sums = macs / pixels, macs * p, macs / (kernel * c), 0.0
            elif dataflow == "icoc":
                weight = macs
                inputs = macs / k * (1 if k > 24 else 1 - (1 - p) ** k)
                outputs = sums = macs / c * (1 if c > 24 else 1 - (1 - p) ** c)
            elif dataflow == "fxfy":
                weight, inputs = macs / pixels, macs * p
                outputs = sums = macs / kernel * (1 - (1 - p) ** kernel)
            else:
                weight = macs / math.sqrt(pixels)
                inputs = outputs = sums = macs / side * (1 - (1 - p) ** side)
            total += 1.02 * macs * p * (q + 1)
            total += 7.28 * (inputs + sums + weight * (q + 1) / 16) + 4.47 * outputs
    return total * 1e-9


def some_layers() -> st.SearchStrategy[LayerShape]:
    side = st.integers(1, 12)

    @st.composite
    def layer(draw: st.DrawFn) -> LayerShape:
        if draw(st.booleans()):
            return linear(draw(st.integers(1, 60)), draw(st.integers(1, 60)), draw(st.integers(1, 3)))
        groups, kernel = draw(st.integers(1, 3)), (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
        pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
        calls = tuple(
            LayerCall((draw(side), draw(side)), (draw(side), draw(side))) for _ in range(draw(st.integers(1, 3)))
        )
        c, k = draw(st.integers(1, 40)) * groups, draw(st.integers(1, 40)) * groups
        return LayerShape("layer", "conv", c, k, calls, kernel, draw(pair), draw(pair), groups)

    return layer()


networks = st.lists(some_layers(), min_size=1, max_size=4)
densities = st.floats(0.01, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.data(), networks, st.sampled_from([*DATAFLOWS]))
def test_paper_counts_equal_the_formulas_layer_by_layer(
    data: st.DataObject, layers: list[LayerShape], dataflow: str
) -> None:
    bits = data.draw(st.lists(st.integers(1, 32), min_size=len(layers), max_size=len(layers)))
    density = data.draw(st.lists(densities, min_size=len(layers), max_size=len(layers)))
    energy = estimate_energy(Workload(layers, [bits], [density]), dataflow=dataflow, hardware=FPGA)
    assert energy[0] == pytest.approx(published_energy_mj(layers, bits, density, dataflow), rel=1e-12)


@pytest.mark.parametrize("preset", WITH_ENERGY)
@settings(max_examples=12, deadline=None)
@given(data=st.data(), layers=networks)
def test_a_population_costs_what_its_candidates_cost_alone(
    preset: str, data: st.DataObject, layers: list[LayerShape]
) -> None:
    hardware = load_hardware(preset)
    seed = data.draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    shape = (3, len(layers))
    bits, density = generator.integers(1, 33, shape), generator.random(shape)
    coded = generator.integers(0, 10_000, shape) if data.draw(st.booleans()) else None
    for dataflow in (*DATAFLOWS, "best"):
        together = estimate_energy(
            Workload(layers, bits, density, coded_bits=coded), dataflow=dataflow, hardware=hardware
        )
        parts = energy_breakdown(
            Workload(layers, bits, density, coded_bits=coded), dataflow=dataflow, hardware=hardware
        )
        cycles = estimate_cycles(
            Workload(layers, bits, density, coded_bits=coded), dataflow=dataflow, hardware=hardware
        )
        assert together.shape == (3,)
        assert parts.per_layer.shape == cycles.shape == shape
        np.testing.assert_allclose(parts.total, together, rtol=1e-12)
        assert np.all(np.isfinite(together))
        assert np.all(together >= 0)
        for row in range(3):
            one = None if coded is None else coded[row : row + 1]
            part = (layers, bits[row : row + 1], density[row : row + 1])
            alone = estimate_energy(Workload(*part, coded_bits=one), dataflow=dataflow, hardware=hardware)
            np.testing.assert_allclose(alone, together[row], rtol=1e-12)
            alone = estimate_cycles(Workload(*part, coded_bits=one), dataflow=dataflow, hardware=hardware)
            np.testing.assert_allclose(alone[0], cycles[row], rtol=1e-12)


@pytest.mark.parametrize("preset", WITH_ENERGY)
@settings(max_examples=12, deadline=None)
@given(layers=networks, seed=st.integers(0, 2**32 - 1))
def test_more_bits_and_more_weights_never_cost_less(preset: str, layers: list[LayerShape], seed: int) -> None:
    hardware = load_hardware(preset)
    generator = np.random.default_rng(seed)
    shape = (1, len(layers))
    bits, density = generator.integers(1, 31, shape), generator.random(shape)
    more = (bits + generator.integers(0, 3, shape), density + (1 - density) * generator.random(shape))
    for dataflow in (*DATAFLOWS, "best"):
        less = estimate_energy(Workload(layers, bits, density), dataflow=dataflow, hardware=hardware)
        assert estimate_energy(Workload(layers, *more), dataflow=dataflow, hardware=hardware) >= less * (1 - 1e-12)
    # What stays in place is chosen by energy, so the cycles of transfers may fall where the choice changes.
    memories = tuple(dataclasses.replace(memory, bw_bits_per_cycle=None) for memory in hardware.memories)
    steps_only = dataclasses.replace(hardware, memories=memories)
    for dataflow in DATAFLOWS:
        less = estimate_cycles(Workload(layers, bits, density), dataflow=dataflow, hardware=steps_only)
        assert np.all(
            estimate_cycles(Workload(layers, *more), dataflow=dataflow, hardware=steps_only) >= less * (1 - 1e-12)
        )
    for coding in PAPER_CODINGS:
        assert estimate_size(Workload(layers, *more), coding=coding) >= estimate_size(
            Workload(layers, bits, density), coding=coding
        )


def test_best_dataflow_is_chosen_for_each_candidate() -> None:
    # The paper's counts prefer X|Y for many bits and IC|OC for few weights of few bits.
    layers = vgg16()
    bits, density = np.array([[32] * 14, [2] * 14]), np.array([[1.0] * 14, [0.9] * 14])
    by_name = {
        name: estimate_energy(Workload(layers, bits, density), dataflow=name, hardware=FPGA) for name in DATAFLOWS
    }
    best = energy_breakdown(Workload(layers, bits, density), dataflow="best", hardware=FPGA)
    assert best.dataflows == tuple(min(DATAFLOWS, key=lambda name: by_name[name][row]) for row in range(2))
    assert len(set(best.dataflows)) == 2
    np.testing.assert_allclose(best.total, np.min(list(by_name.values()), axis=0), rtol=1e-12)
    np.testing.assert_array_equal(
        estimate_energy(Workload(layers, bits, density), dataflow="best", hardware=FPGA),
        np.min(list(by_name.values()), axis=0),
    )
    cycles = estimate_cycles(Workload(layers, bits, density), dataflow="best", hardware=FPGA)
    for row, name in enumerate(best.dataflows):
        alone = estimate_cycles(Workload(layers, bits, density), dataflow=name, hardware=FPGA)
        np.testing.assert_array_equal(cycles[row], alone[row])


@pytest.mark.parametrize("preset", WITH_ENERGY)
def test_a_layer_called_twice_costs_each_call_but_is_stored_once(preset: str) -> None:
    hardware = load_hardware(preset)
    first, second = conv(8, 8, 16), conv(8, 8, 8)
    twice = dataclasses.replace(first, calls=first.calls + second.calls)
    bits, density = [[4]], [[0.5]]
    for dataflow in DATAFLOWS:
        arguments = {"dataflow": dataflow, "hardware": hardware}
        apart = [estimate_energy(Workload([layer], bits, density), **arguments)[0] for layer in (first, second)]
        assert estimate_energy(Workload([twice], bits, density), **arguments)[0] == pytest.approx(sum(apart), rel=1e-12)
        apart = [estimate_cycles(Workload([layer], bits, density), **arguments)[0, 0] for layer in (first, second)]
        assert estimate_cycles(Workload([twice], bits, density), **arguments)[0, 0] == pytest.approx(
            sum(apart), rel=1e-12
        )
        # The layers beside it keep their own columns.
        network = [conv(3, 8, 16), twice, linear(8, 2)]
        parts = energy_breakdown(Workload(network, [[4] * 3], [[0.5] * 3]), **arguments)
        assert parts.per_layer[0, 1] == pytest.approx(
            sum(estimate_energy(Workload([twice], bits, density), **arguments))
        )
        assert parts.per_layer[0, 2] == pytest.approx(
            estimate_energy(Workload([network[2]], bits, density), **arguments)[0]
        )
    for coding in PAPER_CODINGS:
        once = estimate_size(Workload([first], bits, density), coding=coding)
        assert estimate_size(Workload([twice], bits, density), coding=coding) == once


def test_sizes_by_hand() -> None:
    layers = [conv(4, 8, 5), linear(10, 3)]  # 288 and 30 weights
    bits, density = [[4, 8]], [[0.25, 0.5]]
    np.testing.assert_allclose(
        estimate_size_bits(Workload(layers, bits, density), coding="normal"), [[288 * 4, 30 * 8]]
    )
    np.testing.assert_allclose(estimate_size_bits(Workload(layers, bits, density), coding="csr"), [[72 * 7, 15 * 11]])
    # log2 288 = 8.17, log2 30 = 4.91
    np.testing.assert_allclose(estimate_size_bits(Workload(layers, bits, density), coding="coo"), [[72 * 12, 15 * 13]])
    kib = estimate_size(Workload(layers, bits, density), coding="csr")
    np.testing.assert_allclose(kib, [(72 * 7 + 15 * 11) / 8192])


def test_csr_forgets_the_fillers_as_the_paper_does() -> None:
    bits = estimate_size_bits(Workload([linear(100, 100)], [[4]], [[0.05]]), coding="csr")
    assert bits[0, 0] == pytest.approx(10_000 * 0.05 * 7)


def test_depthwise_under_icoc_reads_what_remains() -> None:
    layer = conv(16, 16, 8, 3, groups=16)
    macs, p, q = 9 * 64 * 16, 0.25, 4
    energy = energy_breakdown(Workload([layer], [[q]], [[p]]), dataflow="icoc", hardware=FPGA)
    assert energy.mac[0, 0] == pytest.approx(1.02e-9 * macs * p * (q + 1))
    assert energy.input[0, 0] == pytest.approx(7.28e-9 * macs * p)
    assert energy.weight[0, 0] == pytest.approx(7.28e-9 * macs * (q + 1) / 16)
    assert energy.output[0, 0] == pytest.approx((7.28e-9 + 4.47e-9) * macs * p)
    assert energy.dram[0, 0] == 0


def test_worked_layer_of_the_documentation() -> None:
    layer = conv(6, 16, 10, 5, input_side=14)
    paper = energy_breakdown(Workload([layer], [[4]], [[0.25]]), dataflow="xy", hardware=FPGA)
    found = [getattr(paper, part)[0, 0] * 1e9 for part in ENERGY_PARTS]
    assert found == pytest.approx([306_000, 436_800, 5_460, 7_152, 0])
    sizes = [estimate_size_bits(Workload([layer], [[4]], [[0.25]]), coding=coding)[0, 0] for coding in PAPER_CODINGS]
    assert sizes == pytest.approx([9_600, 4_200, 9_000])
    hardware = dataclasses.replace(load_hardware("eyeriss_ratio"), zero_skipping=ZeroSkipping("skipped"))
    reuse = energy_breakdown(Workload([layer], [[4]], [[0.25]], coded_bits=[[4_500]]), dataflow="xy", hardware=hardware)
    found = [getattr(reuse, part)[0, 0] for part in ENERGY_PARTS]
    assert found == pytest.approx([15_000, 487_056, 33_375, 140_800, 611_450])
    cycles = estimate_cycles(Workload([layer], [[4]], [[0.25]]), dataflow="xy", hardware=hardware)
    assert cycles[0, 0] == pytest.approx(600)
    assert cycles_to_ms(cycles, hardware)[0, 0] == pytest.approx(0.003)


def test_24_channels_are_counted_by_chance_and_25_always() -> None:
    def input_reads(channels: int) -> float:
        parts = energy_breakdown(Workload([conv(3, channels, 4)], [[4]], [[0.01]]), dataflow="icoc", hardware=FPGA)
        return parts.input[0, 0] / 7.28e-9 / (27 * 16)

    assert input_reads(24) == pytest.approx(1 - 0.99**24)
    assert input_reads(25) == pytest.approx(1)

    def outputs(channels: int) -> float:
        parts = energy_breakdown(Workload([conv(channels, 3, 4)], [[4]], [[0.01]]), dataflow="icoc", hardware=FPGA)
        # A partial sum is written and read for each of 9 kernel positions, 3 output channels and 16 pixels.
        return parts.output[0, 0] / (7.28e-9 + 4.47e-9) / (27 * 16)

    assert outputs(24) == pytest.approx(1 - 0.99**24)
    assert outputs(25) == pytest.approx(1)


def test_activation_bits_scale_what_inputs_cost() -> None:
    layers, (bits, density) = vgg16(), uniform(vgg16(), 4, 0.5)
    full = energy_breakdown(Workload(layers, bits, density), dataflow="xfx", hardware=FPGA)
    half = energy_breakdown(Workload(layers, bits, density, activation_bits=8), dataflow="xfx", hardware=FPGA)
    np.testing.assert_allclose(half.input, full.input / 2)
    np.testing.assert_array_equal(half.output, full.output)
    bilinear = load_hardware("horowitz_45nm")
    full = energy_breakdown(Workload(layers, bits, density), dataflow="xfx", hardware=bilinear)
    half = energy_breakdown(Workload(layers, bits, density, activation_bits=8), dataflow="xfx", hardware=bilinear)
    assert np.all(half.mac < full.mac)
    assert np.all(half.dram < full.dram)


def test_mac_models() -> None:
    bits = np.array([[2.0, 8.0, 9.0, 32.0]])
    np.testing.assert_allclose(AffineMac(1.0, 0.5).energy(bits, 16), [[2.0, 5.0, 5.5, 17.0]])
    np.testing.assert_allclose(BilinearMac(0.01, 0.5).energy(bits, 8), [[0.66, 1.14, 1.22, 3.06]])
    table = TableMac(8, {8: 1.0, 4: 0.25, 16: 3.0})
    np.testing.assert_allclose(table.energy(bits, 8), [[0.25, 1.0, 3.0, 6.0]])
    np.testing.assert_allclose(table.energy(bits, 16), [[0.5, 2.0, 6.0, 12.0]])


def test_relative_hardware_returns_macs() -> None:
    layers = [linear(10, 10)]
    hardware = load_hardware("eyeriss_ratio")
    parts = energy_breakdown(Workload(layers, [[16]], [[1.0]]), dataflow="xy", hardware=hardware)
    assert parts.unit == "16-bit MACs"
    assert parts.mac[0, 0] == pytest.approx(100)


def test_an_empty_layer_costs_only_what_is_read_anyway() -> None:
    parts = energy_breakdown(Workload([conv(4, 4, 8)], [[2]], [[0.0]]), dataflow="xfx", hardware=FPGA)
    assert parts.mac[0, 0] == parts.input[0, 0] == parts.output[0, 0] == 0
    assert parts.weight[0, 0] > 0


def test_milliseconds_need_a_clock() -> None:
    hardware = dataclasses.replace(FPGA, clock_mhz=200.0)
    np.testing.assert_allclose(cycles_to_ms(np.array([1e6]), hardware), [5.0])
    with pytest.raises(UserError, match="expected a hardware with clock_mhz for a latency, found none in emomc_fpga"):
        cycles_to_ms(np.array([1e6]), FPGA)


def test_names() -> None:
    assert [dataflow_label(name) for name in DATAFLOWS] == ["X|Y", "IC|OC", "Fx|Fy", "X|Fx"]
    assert [CODINGS[name].label for name in PAPER_CODINGS] == ["normal", "CSR", "COO"]
    assert [flow.name for flow in dataflows_named("best")] == [*DATAFLOWS]
    assert [flow.name for flow in dataflows_named("icoc")] == ["icoc"]
    with pytest.raises(
        UserError, match=r"expected a dataflow among xy, icoc, fxfy, xfx, best, best_per_layer, found 'X\|Y'"
    ):
        dataflows_named("X|Y")


def good() -> dict[str, object]:
    return {"layers": vgg16(), "bits": np.full((2, 14), 4), "density": np.full((2, 14), 0.5)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": np.full(14, 4)}, r"expected bits of shape \(candidates, 14\), found \(14,\)"),
        ({"bits": np.full((2, 13), 4)}, r"expected bits of shape \(candidates, 14\), found \(2, 13\)"),
        ({"bits": np.full((2, 14), 0)}, "expected finite bits in 1..32, found 0..0"),
        ({"bits": np.full((2, 14), 33)}, "expected finite bits in 1..32, found 33..33"),
        ({"bits": np.full((2, 14), 2.5)}, "expected whole numbers of bits, found fractions"),
        ({"density": np.full((2, 14), 1.5)}, "expected finite density in 0..1, found 1.5..1.5"),
        ({"density": np.full((2, 14), np.nan)}, "expected finite density in 0..1, found nan..nan"),
        ({"density": np.full((3, 14), 0.5)}, r"of one shape, found \(2, 14\) and \(3, 14\)"),
        ({"coded_bits": np.full((2, 14), -1)}, "expected finite coded_bits in 0..inf, found -1..-1"),
        ({"coded_bits": np.full((2, 14), np.inf)}, "expected finite coded_bits in 0..inf, found inf..inf"),
        (
            {"coded_bits": np.full((3, 14), 1)},
            r"expected bits and coded_bits of one shape, found \(2, 14\) and \(3, 14\)",
        ),
        ({"activation_bits": 0}, "expected activation_bits in 1..32, found 0"),
        ({"layers": []}, "expected at least one layer, found none"),
        ({"dataflow": "yx"}, "expected a dataflow among xy, icoc, fxfy, xfx, best, best_per_layer, found 'yx'"),
    ],
)
def test_wrong_arguments_get_one_line(change: dict[str, object], message: str) -> None:
    workload = {**good(), **change}
    dataflow = workload.pop("dataflow", "xy")
    for function in (estimate_energy, energy_breakdown, estimate_cycles):
        with pytest.raises(UserError, match=message):
            function(Workload(**workload), dataflow=dataflow, hardware=FPGA)  # type: ignore[operator]


def test_unknown_layer_kinds_are_refused() -> None:
    strange = dataclasses.replace(linear(4, 4), kind="attention")  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match="expected layers of kind conv, linear, conv_transpose, product, found fc of kind 'attention'"
    ):
        estimate_energy(Workload([strange], [[4]], [[0.5]]), dataflow="xy", hardware=FPGA)
    with pytest.raises(
        UserError, match="expected layers of kind conv, linear, conv_transpose, product, found fc of kind 'attention'"
    ):
        estimate_size(Workload([strange], [[4]], [[0.5]]), coding="normal")
    uncalled = dataclasses.replace(linear(4, 4), calls=())
    with pytest.raises(UserError, match="expected layers that are called, found fc without a call"):
        estimate_energy(Workload([uncalled], [[4]], [[0.5]]), dataflow="xy", hardware=FPGA)


@pytest.mark.parametrize("coding", ["bitmap", "best", "zip"])
def test_codings_without_a_formula_in_the_paper_are_refused(coding: str) -> None:
    with pytest.raises(UserError, match=f"expected a coding with a formula in the paper .* found '{coding}'"):
        estimate_size(Workload(**good()), coding=coding)  # type: ignore[arg-type]
