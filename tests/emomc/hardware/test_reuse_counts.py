"""The reuse counts, worked by hand.

The comments give the counts, made only from the layer's extents and the rules of ``docs/cost_model.md``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.hardware.call_table import tabulate_calls
from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import Hardware, Memory, OperationalArray, Precision, load_hardware
from emomc.hardware.energy import energy_breakdown, estimate_energy
from emomc.hardware.mac_energy import AffineMac
from emomc.hardware.mapping import AIMS
from emomc.hardware.reuse_counts import ArrayUse, array_use
from emomc.hardware.workload import Workload
from emomc.hardware.zero_skipping import ZeroSkipping
from emomc.networks.layers import LayerCall, LayerShape


def conv(
    c: int,
    k: int,
    output: tuple[int, int],
    kernel: tuple[int, int] = (1, 1),
    *,
    input_size: tuple[int, int] | None = None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> LayerShape:
    call = LayerCall(input_size or output, output)
    return LayerShape("conv", "conv", c, k, (call,), kernel, (stride, stride), (dilation, dilation), groups)


def linear(c: int, k: int) -> LayerShape:
    return LayerShape("fc", "linear", c, k, (LayerCall((1, 1), (1, 1)),))


def use_of(layer: LayerShape, dataflow: str, sizes: tuple[int, int] | None) -> dict[str, float]:
    use = array_use(tabulate_calls([layer]), DATAFLOWS[dataflow].unrolled, sizes)
    return {field.name: float(getattr(use, field.name)[0]) for field in dataclasses.fields(ArrayUse)}


def expected(*values: float) -> dict[str, float]:
    names = [field.name for field in dataclasses.fields(ArrayUse)]
    return {name: pytest.approx(value) for name, value in zip(names, values, strict=True)}


# 4 -> 8 channels, 3x3, stride 2, 9x9 -> 4x4: 288 weights, 4,608 MACs.
STRIDED = conv(4, 8, (4, 4), (3, 3), input_size=(9, 9), stride=2)


@pytest.mark.parametrize(
    ("dataflow", "sizes", "counts"),
    [
        # used PEs, steps, inputs, weights, outputs, input reuse (K), weight reuse (OX OY), output reuse (C FX FY)
        ("xy", None, (16, 288, 16, 1, 16, 8, 1, 36)),
        ("xy", (3, 3), (4, 1152, 4, 1, 4, 8, 4, 36)),  # 4 on 3 PEs: two folds of 2
        ("xy", (8, 2), (8, 576, 8, 1, 8, 8, 2, 36)),
        ("icoc", None, (32, 144, 4, 32, 8, 1, 16, 9)),
        ("icoc", (2, 3), (2 * 8 / 3, 864, 2, 16 / 3, 8 / 3, 3, 16, 18)),  # 8 on 3 PEs: three folds of 8/3
        # a 3x3 window; nothing is shared inside one window
        ("fxfy", None, (9, 512, 9, 9, 1, 8, 16, 4)),
        # 4 outputs 2 apart and 3 kernel columns touch 2*3 + 2 + 1 = 9 of 12 input columns
        ("xfx", None, (12, 384, 9, 3, 4, 8, 4, 12)),
        # 2 outputs and 3 kernel columns: 2*1 + 2 + 1 = 5 of 6
        ("xfx", (2, 8), (6, 768, 5, 3, 2, 8, 8, 12)),
    ],
)
def test_strided_convolution(dataflow: str, sizes: tuple[int, int] | None, counts: tuple[float, ...]) -> None:
    assert use_of(STRIDED, dataflow, sizes) == expected(*counts)


# 6 channels, each on its own, 3x3, 5x5 -> 5x5: 54 weights, 1,350 MACs.
DEPTHWISE = conv(6, 6, (5, 5), (3, 3), groups=6)


@pytest.mark.parametrize(
    ("dataflow", "sizes", "counts"),
    [
        ("icoc", (16, 16), (1, 1350, 1, 1, 1, 1, 25, 9)),  # one channel in, one out: one PE
        ("xy", None, (25, 54, 25, 1, 25, 1, 1, 9)),
        ("fxfy", None, (9, 150, 9, 9, 1, 1, 25, 1)),
        ("xfx", None, (15, 90, 7, 3, 5, 1, 5, 3)),  # 5 outputs and 3 kernel columns: 4 + 2 + 1 = 7
    ],
)
def test_depthwise_convolution(dataflow: str, sizes: tuple[int, int] | None, counts: tuple[float, ...]) -> None:
    assert use_of(DEPTHWISE, dataflow, sizes) == expected(*counts)


# 12 -> 10 channels, 1x1, 6 columns x 4 rows: 120 weights, 2,880 MACs.
POINTWISE = conv(12, 10, (4, 6))


@pytest.mark.parametrize(
    ("dataflow", "sizes", "counts"),
    [
        ("icoc", (4, 4), (4 * 10 / 3, 216, 4, 40 / 3, 10 / 3, 3, 24, 3)),  # smaller: 3 folds of 4, 3 of 10/3
        ("icoc", (12, 10), (120, 24, 12, 120, 10, 1, 24, 1)),  # equal
        ("icoc", (64, 64), (120, 24, 12, 120, 10, 1, 24, 1)),  # larger
        ("xy", (4, 4), (12, 240, 12, 1, 12, 10, 2, 12)),  # 6 columns on 4 PEs: two folds of 3
        ("fxfy", (4, 4), (1, 2880, 1, 1, 1, 10, 24, 12)),
        ("xfx", (6, 4), (6, 480, 6, 1, 6, 10, 4, 12)),
    ],
)
def test_pointwise_convolution(dataflow: str, sizes: tuple[int, int], counts: tuple[float, ...]) -> None:
    assert use_of(POINTWISE, dataflow, sizes) == expected(*counts)


@pytest.mark.parametrize(
    ("dataflow", "counts"),
    [
        ("icoc", (200, 5, 20, 200, 10, 1, 1, 5)),  # 100 on 20 PEs: 5 folds
        ("xy", (1, 1000, 1, 1, 1, 10, 1, 100)),
        ("fxfy", (1, 1000, 1, 1, 1, 10, 1, 100)),
        ("xfx", (1, 1000, 1, 1, 1, 10, 1, 100)),
    ],
)
def test_linear_layer(dataflow: str, counts: tuple[float, ...]) -> None:
    assert use_of(linear(100, 10), dataflow, (20, 20)) == expected(*counts)


def test_dilation_spreads_the_touched_inputs() -> None:
    layer = conv(1, 1, (8, 8), (3, 3), input_size=(12, 12), dilation=2)
    assert use_of(layer, "xfx", None)["inputs"] == 12  # 7 + 2*2 + 1
    assert use_of(layer, "xfx", (2, 8))["inputs"] == 6  # 2 x 3, as dilation leaves nothing to share


def test_rows_and_columns_of_a_kernel_are_told_apart() -> None:
    layer = conv(2, 2, (3, 7), (5, 1))
    assert use_of(layer, "xfx", None)["used_pes"] == 7
    assert use_of(layer, "fxfy", None)["used_pes"] == 5
    assert use_of(layer, "xy", (16, 2))["used_pes"] == 7 * 1.5


SOURCES = {"mac": "made up", "memories": "made up"}
REGISTER = Memory("register", ("I", "W", "O"), 16, 0.5, 0.25, per_pe=True)
BUFFER = Memory("buffer", ("I", "W", "O"), 16, 2.0, 3.0)
DRAM = Memory("dram", ("I", "W", "O"), 16, 10.0, 20.0)


def hardware(*memories: Memory, sizes: tuple[int, int] | None = None) -> Hardware:
    array = OperationalArray(sizes, AffineMac(1.0, 0.0))
    return Hardware("mine", "made up", "mac16", "reuse", Precision(16, 16), array, memories, sources=SOURCES)


def test_energy_of_the_strided_convolution_under_xy() -> None:
    # Held outputs save most: each is written once, 128 x 3, and no partial sum is read.
    # Inputs: 288 steps x 16, x 2. Weights: 288 x 1, x 2. On the way they are written: to the buffer, 324 and 288 x 3,
    # and to each PE that uses them, 4,608 x 0.25. Registers: 4,608 MACs x 0.5, 0.5 and 0.75; 128 outputs leave, x 0.5.
    # DRAM: 324 inputs and 288 weights x 10, 128 outputs x 20, read from the buffer x 2.
    parts = energy_breakdown(
        Workload([STRIDED], [[16]], [[1.0]]), dataflow="xy", hardware=hardware(REGISTER, BUFFER, DRAM)
    )
    assert parts.mac[0, 0] == pytest.approx(4608)
    assert parts.input[0, 0] == pytest.approx(4608 * 2 + 324 * 3 + 4608 * 0.75)
    assert parts.weight[0, 0] == pytest.approx(288 * 2 + 288 * 3 + 4608 * 0.75)
    assert parts.output[0, 0] == pytest.approx(128 * 3 + 128 * 2 + 4608 * 0.75 + 128 * 0.5)
    assert parts.dram[0, 0] == pytest.approx((324 + 288) * 10 + 128 * 20)


def test_energy_of_a_pruned_strided_convolution_under_xy() -> None:
    # 8 bits, density 1/4. An input serves one MAC of one step: it is read with probability 1/4. An output sums
    # 36 MACs. The registers are accessed by the MACs that are made. All coded weights are read once.
    p, coded, needed = 0.25, 1000.0, 1 - 0.75**36
    parts = energy_breakdown(
        Workload([STRIDED], [[8]], [[p]], coded_bits=[[coded]]),
        dataflow="xy",
        hardware=hardware(REGISTER, BUFFER, DRAM),
    )
    assert parts.mac[0, 0] == pytest.approx(4608 * p)
    assert parts.input[0, 0] == pytest.approx(4608 * p * 2 + 324 * 3 + 4608 * p * 0.75)
    assert parts.weight[0, 0] == pytest.approx(coded / 16 * 5 + 4608 * p * 0.75 / 2)
    assert parts.output[0, 0] == pytest.approx(128 * (needed * 3.5 + 2) + 4608 * p * 0.75)
    assert parts.dram[0, 0] == pytest.approx(324 * 10 + coded / 16 * 10 + 128 * 20)


def test_energy_of_a_pruned_pointwise_convolution_under_icoc() -> None:
    # On 4x4 PEs: 216 steps touch 4 inputs, 40/3 weights and 10/3 outputs; 2,880 MACs.
    # A register for weights: 2,880 / 24 = 120 reads. Inputs and outputs change at every step: 864 reads, 720 accesses.
    # An input serves 10/3 MACs of a step; an output sums 4.
    p = 0.5
    register = dataclasses.replace(REGISTER, operands=("W",))
    target = hardware(register, BUFFER, sizes=(4, 4))
    parts = energy_breakdown(Workload([POINTWISE], [[16]], [[p]]), dataflow="icoc", hardware=target)
    assert parts.weight[0, 0] == pytest.approx(120 * 2 + 2880 * p * 0.5 + 120 * p * 0.25)
    assert parts.input[0, 0] == pytest.approx(864 * (1 - p ** (10 / 3)) * 2)
    assert parts.output[0, 0] == pytest.approx((1 - p**4) * (720 * 3 + 480 * 2))
    assert parts.dram[0, 0] == 0


@pytest.mark.parametrize(
    ("operand", "inputs", "weights", "outputs"),
    [(None, 1000, 1000, 1000), ("I", 100, 1000, 1000), ("O", 1000, 1000, 10)],
)
def test_an_operand_is_held_only_where_a_pe_has_a_memory_for_it(
    operand: str | None, inputs: int, weights: int, outputs: int
) -> None:
    # 100 -> 10 on one PE: 1,000 steps. An input serves 10 of them, an output 100, a weight 1.
    free = (Memory("register", (operand,), 16, 0.0, 0.0, per_pe=True),) if operand else ()
    target = hardware(*free, BUFFER, sizes=(4, 4))
    parts = energy_breakdown(Workload([linear(100, 10)], [[16]], [[1.0]]), dataflow="xy", hardware=target)
    assert parts.input[0, 0] == pytest.approx(inputs * 2)
    assert parts.weight[0, 0] == pytest.approx(weights * 2)
    assert parts.output[0, 0] == pytest.approx(outputs * 3 + (outputs - 10) * 2)
    if operand == "I":
        # A held input serves the weights of 10 outputs: it is read unless all of them are zero.
        parts = energy_breakdown(Workload([linear(100, 10)], [[16]], [[0.25]]), dataflow="xy", hardware=target)
        assert parts.input[0, 0] == pytest.approx(100 * (1 - 0.75**10) * 2)


def test_the_operand_that_saves_most_is_held() -> None:
    free = Memory("register", ("I", "W", "O"), 16, 0.0, 0.0, per_pe=True)
    for output_cost, held in ((3.0, "output"), (0.0, "input")):
        memories = (Memory("psum", ("O",), 16, output_cost, output_cost), Memory("buffer", ("I", "W"), 16, 2.0, 3.0))
        target = hardware(free, *memories, sizes=(4, 4))
        parts = energy_breakdown(Workload([linear(100, 10)], [[16]], [[1.0]]), dataflow="xy", hardware=target)
        assert parts.input[0, 0] == pytest.approx(2 * (100 if held == "input" else 1000))
        assert parts.output[0, 0] == pytest.approx(30 if held == "output" else 0)


def test_complete_outputs_are_as_wide_as_the_inputs_of_the_next_layer() -> None:
    wide = dataclasses.replace(hardware(REGISTER, BUFFER), precision=Precision(8, 32))
    parts = energy_breakdown(Workload([STRIDED], [[16]], [[1.0]]), dataflow="xy", hardware=wide)
    # Held outputs: 128 of 8 bits are written to the buffer; the register sums and gives away 32 bits.
    assert parts.output[0, 0] == pytest.approx(128 * 3 / 2 + 2 * (4608 * 0.75 + 128 * 0.5))
    loose = dataclasses.replace(hardware(BUFFER), precision=Precision(8, 32))
    parts = energy_breakdown(Workload([STRIDED], [[16]], [[1.0]]), dataflow="xy", hardware=loose)
    # Nothing is held: of 4,608 accesses all but 128 write and read partial sums of 32 bits.
    assert parts.output[0, 0] == pytest.approx(4480 * 2 * (3 + 2) + 128 * 3 / 2)


def test_weights_that_bypass_the_buffer_are_read_from_dram_as_often_as_needed() -> None:
    register = dataclasses.replace(REGISTER, operands=("W",))
    target = hardware(register, Memory("buffer", ("I", "O"), 16, 2.0, 3.0), DRAM)
    parts = energy_breakdown(Workload([STRIDED], [[16]], [[1.0]]), dataflow="fxfy", hardware=target)
    # 512 steps x 9 weights = 4,608; 16 pixels use each, so held weights are read 288 times, at 10.
    # Outputs: 512 accesses, of which 384 read. DRAM, once each: 324 inputs x 10, 128 outputs x 20.
    assert parts.weight[0, 0] == pytest.approx(4608 * 0.5 + 288 * 0.25)
    assert parts.output[0, 0] == pytest.approx(512 * 3 + 384 * 2 + 128 * 2)
    assert parts.dram[0, 0] == pytest.approx(288 * 10 + 324 * 10 + 128 * 20)


def test_extra_weight_bits_travel_where_no_coding_is_given() -> None:
    flagged = dataclasses.replace(BUFFER, extra_weight_bits=4)
    plain = energy_breakdown(Workload([STRIDED], [[4]], [[0.5]]), dataflow="xy", hardware=hardware(BUFFER))
    extra = energy_breakdown(Workload([STRIDED], [[4]], [[0.5]]), dataflow="xy", hardware=hardware(flagged))
    coded = energy_breakdown(
        Workload([STRIDED], [[4]], [[0.5]], coded_bits=[[288 * 4]]), dataflow="xy", hardware=hardware(flagged)
    )
    assert extra.weight[0, 0] == pytest.approx(2 * plain.weight[0, 0])
    assert coded.weight[0, 0] == pytest.approx(plain.weight[0, 0])
    # Registers hold weights that are not coded: 4,608 MACs of half the weights, each read and written.
    register = dataclasses.replace(REGISTER, extra_weight_bits=4)
    more = energy_breakdown(Workload([STRIDED], [[4]], [[0.5]]), dataflow="xy", hardware=hardware(register, BUFFER))
    assert more.weight[0, 0] - plain.weight[0, 0] == pytest.approx(4608 * 0.5 * 0.75 * (4 + 4) / 16)


def test_every_memory_further_out_is_passed_once() -> None:
    near, far = Memory("near", ("I", "W", "O"), 16, 1.0, 1.0), Memory("far", ("I", "W", "O"), 16, 5.0, 5.0)
    two = energy_breakdown(Workload([STRIDED], [[16]], [[1.0]]), dataflow="xy", hardware=hardware(near, DRAM))
    three = energy_breakdown(Workload([STRIDED], [[16]], [[1.0]]), dataflow="xy", hardware=hardware(near, far, DRAM))
    np.testing.assert_array_equal(three.dram, two.dram)
    # It is written from one side and read from the other.
    assert three.input[0, 0] - two.input[0, 0] == pytest.approx(324 * 10)
    assert three.weight[0, 0] - two.weight[0, 0] == pytest.approx(288 * 10)
    assert three.output[0, 0] - two.output[0, 0] == pytest.approx(128 * 10)


def test_cycles_are_macs_over_used_pes() -> None:
    for dataflow, steps in (("xy", 288), ("icoc", 144), ("fxfy", 512), ("xfx", 384)):
        cycles = estimate_cycles(Workload([STRIDED], [[8]], [[1.0]]), dataflow=dataflow, hardware=hardware(BUFFER))
        assert cycles[0, 0] == pytest.approx(steps)


def test_steps_without_a_remaining_weight_are_skipped() -> None:
    p = 0.25
    for dataflow, steps, weights in (("xy", 288, 1), ("icoc", 144, 32), ("fxfy", 512, 9), ("xfx", 384, 3)):
        cycles = estimate_cycles(Workload([STRIDED], [[8]], [[p]]), dataflow=dataflow, hardware=hardware(BUFFER))
        assert cycles[0, 0] == pytest.approx(steps * (1 - (1 - p) ** weights))


def test_bandwidth_bounds_the_cycles() -> None:
    # Under X|Y with held outputs the buffer moves 4,608 inputs, 288 weights and 128 outputs of 16 bits.
    # Filling and draining: 16 inputs, 1 weight and 16 outputs.
    def cycles(*memories: Memory) -> float:
        return float(
            estimate_cycles(Workload([STRIDED], [[16]], [[1.0]]), dataflow="xy", hardware=hardware(*memories))[0, 0]
        )

    narrow = dataclasses.replace(BUFFER, bw_bits_per_cycle=16.0)
    wide = dataclasses.replace(BUFFER, bw_bits_per_cycle=16e6)
    assert cycles(REGISTER, narrow) == pytest.approx(4608 + 288 + 128 + 33)
    # However wide, a port makes one transfer a cycle: inputs and weights at 288 steps, outputs at 8.
    assert cycles(REGISTER, wide) == pytest.approx(288 + 288 + 8, abs=1e-3)
    # Without a register, outputs are read and written at every step but for the first of each.
    assert cycles(wide) == pytest.approx(288 * 4 - 8, abs=1e-3)
    # Each of 16 PEs makes 288 MACs, each with 1 input and 1 weight written and read, and 1 partial sum read and
    # written; it gives 8 outputs away.
    register = dataclasses.replace(REGISTER, bw_bits_per_cycle=8.0)
    assert cycles(register, BUFFER) == pytest.approx((288 * 6 + 8) * 16 / 8)


def test_bandwidth_makes_bits_count() -> None:
    target = load_hardware("accelergy_eyeriss_32nm")
    slow = dataclasses.replace(target.memories[-1], bw_bits_per_cycle=4.0)
    memories = (*target.memories[:-1], slow)
    target = dataclasses.replace(target, memories=memories, zero_skipping=ZeroSkipping("skipped"))
    few, many = (
        estimate_cycles(
            Workload([linear(100, 100)], [[8]], [[0.5]], coded_bits=[[coded]]), dataflow="icoc", hardware=target
        )
        for coded in (10_000, 40_000)
    )
    assert many[0, 0] - few[0, 0] == pytest.approx(30_000 / 4)


def test_the_mapping_is_chosen_for_the_aim() -> None:
    # Held inputs save the most energy, as they are dear; held outputs the most time, as their memory is slow.
    free = Memory("register", ("I", "O"), 16, 0.0, 0.0, per_pe=True)
    sums = Memory("sums", ("O",), 16, 0.01, 0.01, bw_bits_per_cycle=4.0)
    target = hardware(free, sums, Memory("buffer", ("I", "W"), 16, 5.0, 5.0), sizes=(4, 4))
    workload = Workload([linear(100, 10)], [[16]], [[1.0]])
    costs = {
        aim: [
            float(np.sum(estimate(workload, dataflow="xy", hardware=target, aim=aim)))
            for estimate in (estimate_energy, estimate_cycles)
        ]
        for aim in AIMS
    }
    assert costs["energy"][0] < costs["latency"][0]
    assert costs["latency"][1] < costs["energy"][1]
    assert np.prod(costs["product"]) == min(np.prod(found) for found in costs.values())


def test_the_dataflow_is_chosen_for_the_aim_and_for_each_layer() -> None:
    target = hardware(REGISTER, BUFFER, sizes=(4, 4))
    network = [STRIDED, linear(100, 10), POINTWISE, DEPTHWISE]
    workload = Workload(network, [[8] * 4], [[1.0] * 4])
    for aim, estimate in (("energy", energy_by_layer), ("latency", estimate_cycles)):
        alone = np.array([estimate(workload, dataflow=name, hardware=target, aim=aim)[0] for name in DATAFLOWS])
        best = estimate(workload, dataflow="best", hardware=target, aim=aim)
        assert best.sum() == pytest.approx(alone.sum(axis=1).min())
        each = estimate(workload, dataflow="best_per_layer", hardware=target, aim=aim)
        np.testing.assert_allclose(each[0], alone.min(axis=0))
        assert each.sum() <= best.sum()


def energy_by_layer(workload: Workload, **on: Any) -> np.ndarray:
    return energy_breakdown(workload, **on).per_layer


layers = st.builds(
    conv,
    st.integers(1, 20),
    st.integers(1, 20),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
)


@settings(max_examples=60, deadline=None)
@given(layers, st.sampled_from([*DATAFLOWS]), st.none() | st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_reuse_never_loses_or_invents_work(layer: LayerShape, dataflow: str, sizes: tuple[int, int] | None) -> None:
    use = use_of(layer, dataflow, sizes)
    (call,) = layer.calls
    approximately = 1 + 1e-9
    assert use["used_pes"] * use["steps"] == pytest.approx(layer.macs)
    # Held in place, every weight is read once; an output is accessed at least once.
    assert use["steps"] * use["weights"] / use["weight_reuse"] == pytest.approx(layer.weights)
    outputs = layer.out_channels * call.output_pixels
    assert use["steps"] * use["outputs"] / use["output_reuse"] == pytest.approx(outputs)
    for name in ("inputs", "weights", "outputs"):
        assert use[name] <= use["used_pes"] * approximately
    if sizes is not None:
        assert use["used_pes"] <= sizes[0] * sizes[1]


@settings(max_examples=40, deadline=None)
@given(layers, st.sampled_from([*DATAFLOWS]), st.floats(0.0, 1.0))
def test_a_larger_array_never_costs_more(layer: LayerShape, dataflow: str, density: float) -> None:
    small, large = hardware(BUFFER, sizes=(2, 2)), hardware(BUFFER)
    arguments = ([layer], [[8]], [[density]])
    few = estimate_cycles(Workload(*arguments), dataflow=dataflow, hardware=small)
    many = estimate_cycles(Workload(*arguments), dataflow=dataflow, hardware=large)
    assert np.all(many <= few * (1 + 1e-9) + 1e-300)


def test_energy_is_finite_at_the_ends() -> None:
    for density in (0.0, 1e-12, 1.0):
        for dataflow in DATAFLOWS:
            energy = estimate_energy(
                Workload([STRIDED], [[32]], [[density]]), dataflow=dataflow, hardware=hardware(BUFFER, DRAM)
            )
            assert np.isfinite(energy[0])
