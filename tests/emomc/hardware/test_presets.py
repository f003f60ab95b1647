"""The presets give what their sources say."""

from __future__ import annotations

import numpy as np
import pytest

from emomc.common.errors import UserError
from emomc.hardware.cycles import cycles_to_ms, estimate_cycles
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.layer_report import layer_report, report_csv
from emomc.hardware.workload import Workload
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
