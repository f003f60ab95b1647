"""The presets give what their sources say."""

from __future__ import annotations

import numpy as np
import pytest

from emomc.common.errors import UserError
from emomc.hardware.cycles import cycles_to_ms, estimate_cycles
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.layer_report import layer_report, report_csv
from emomc.hardware.workload import OtherZeros, Workload
from emomc.networks.layers import LayerCall, LayerShape


def conv(c: int, k: int, side: int, kernel: int) -> LayerShape:
    return LayerShape(f"conv{side}", "conv", c, k, (LayerCall((side, side), (side, side)),), (kernel, kernel))


# The network of the CMSIS-NN paper: three convolutions of 5x5 and a linear layer on CIFAR-10.
CMSIS = [
    conv(3, 32, 32, 5),
    conv(32, 32, 16, 5),
    conv(32, 64, 8, 5),
    LayerShape("fc", "linear", 1024, 10, (LayerCall((1, 1), (1, 1)),)),
]


def workload(layers: list[LayerShape]) -> Workload:
    ones = np.ones((1, len(layers)))
    return Workload(layers, 8 * ones, ones)


def test_a_microcontroller_takes_what_was_measured() -> None:
    hardware = load_hardware("cortex_m7_cmsis_nn")
    cycles = estimate_cycles(workload(CMSIS), dataflow="icoc", hardware=hardware, aim="latency")
    assert cycles_to_ms(cycles.sum(), hardware) == pytest.approx(99.1, rel=0.01)
    # Measured by layer: 31.4, 42.8 and 22.6 ms.
    assert cycles_to_ms(cycles[0, :3], hardware) == pytest.approx([31.4, 42.8, 22.6], rel=0.4)


@pytest.mark.parametrize("name", ["ethos_u55_256", "gemmini_16x16"])
def test_an_array_makes_256_macs_a_cycle_where_channels_fill_it(name: str) -> None:
    hardware = load_hardware(name)
    layer = conv(64, 64, 32, 3)
    (cycles,) = estimate_cycles(workload([layer]), dataflow="icoc", hardware=hardware, aim="latency")
    assert cycles.sum() == pytest.approx(layer.macs / 256, rel=0.02)


def test_a_linear_layer_waits_for_its_weights() -> None:
    # A byte a cycle comes from flash.
    hardware = load_hardware("ethos_u55_256")
    layer = LayerShape("fc", "linear", 1024, 1000, (LayerCall((1, 1), (1, 1)),))
    (cycles,) = estimate_cycles(workload([layer]), dataflow="icoc", hardware=hardware, aim="latency")
    assert cycles.sum() == pytest.approx(layer.weights, rel=0.01)


def test_where_no_joules_are_known_none_are_given() -> None:
    hardware = load_hardware("gemmini_16x16")
    with pytest.raises(UserError, match="expected hardware with energies, found gemmini_16x16"):
        estimate_energy(workload(CMSIS), dataflow="icoc", hardware=hardware)
    report = layer_report(workload(CMSIS), dataflow="icoc", hardware=hardware, aim="latency")
    assert report.total_cycles > 0
    assert report.energy_unit == ""
    assert "energy" not in report_csv(report)


def test_a_smaller_microcontroller_takes_what_was_measured() -> None:
    # ResNet-8 of MLPerf Tiny has 12.5 million multiply-accumulates; published are 2.567 inferences a second.
    hardware = load_hardware("cortex_m4_cmsis_nn")
    layer = LayerShape("all", "linear", 12_501_632, 1, (LayerCall((1, 1), (1, 1)),))
    cycles = estimate_cycles(workload([layer]), dataflow="icoc", hardware=hardware, aim="latency")
    assert cycles_to_ms(cycles.sum(), hardware) == pytest.approx(1000 / 2.567, rel=0.01)


def test_few_bits_take_few_cycles_where_there_are_kernels_for_them() -> None:
    hardware = load_hardware("mpic_riscv")
    layer = conv(16, 16, 8, 3)

    def macs_a_cycle(bits: int, inputs: int) -> float:
        one = Workload([layer], [[bits]], [[1.0]], activation_bits=inputs)
        return layer.macs / float(estimate_cycles(one, dataflow="xy", hardware=hardware, aim="latency").sum())

    found = {pair: macs_a_cycle(*pair) for pair in ((2, 2), (3, 3), (8, 8), (8, 2), (9, 8), (16, 16))}
    expected = {(2, 2): 6.5, (3, 3): 3.5, (8, 8): 2.1, (8, 2): 2.2, (9, 8): 1.05, (16, 16): 0.525}
    assert found == pytest.approx(expected, rel=1e-3)


def test_mean_power_is_energy_by_cycle() -> None:
    hardware = load_hardware("mpic_riscv")
    layer = conv(16, 16, 8, 3)
    energy_mj = estimate_energy(workload([layer]), dataflow="xy", hardware=hardware)
    seconds = layer.macs / 2.1 / 250e6
    assert energy_mj == pytest.approx(5.3825 * seconds, rel=1e-3)


@pytest.mark.parametrize(("name", "macs"), [("dpuczdx8g_b1024", 512), ("gap8_pulp_nn", 16 / 0.875)])
def test_a_full_array_makes_what_its_maker_says(name: str, macs: float) -> None:
    layer = conv(64, 64, 32, 3)
    dataflow = "icoc" if name.startswith("dpu") else "xy"
    cycles = estimate_cycles(workload([layer]), dataflow=dataflow, hardware=load_hardware(name), aim="latency")
    assert cycles.sum() == pytest.approx(layer.macs / macs, rel=0.02)


def test_a_pattern_of_two_in_four_halves_the_time() -> None:
    hardware = load_hardware("accelergy_tensor_core_45nm")
    layer = conv(64, 64, 16, 3)
    half = Workload([layer], [[8]], [[0.5]], other_zeros=OtherZeros(structured_density=[[0.5]]))
    dense, random, pattern = (
        float(estimate_energy(one, dataflow="icoc", hardware=hardware)[0])
        for one in (workload([layer]), Workload([layer], [[8]], [[0.5]]), half)
    )
    assert random == dense
    assert pattern < dense
