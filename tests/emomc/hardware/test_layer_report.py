from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from emomc.common.errors import UserError
from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.description import load_hardware, preset_names
from emomc.hardware.energy import energy_breakdown, estimate_energy
from emomc.hardware.layer_report import layer_report, report_csv, report_table
from emomc.hardware.workload import Workload
from emomc.networks.layers import LayerCall, LayerShape

WITH_ENERGY = [name for name in preset_names() if load_hardware(name).has_energy]

CONV = LayerShape("stem.0", "conv", 3, 16, (LayerCall((8, 8), (8, 8)), LayerCall((4, 4), (4, 4))), (3, 3))
FC = LayerShape("head", "linear", 16, 10, (LayerCall((1, 1), (1, 1)),))
LAYERS = [CONV, FC]
BITS, DENSITY, CODED = [4, 6], [0.25, 0.5], [700, 560]


@pytest.mark.parametrize("preset", WITH_ENERGY)
def test_rows_are_the_estimates_of_the_one_candidate(preset: str) -> None:
    hardware = load_hardware(preset)
    report = layer_report(Workload(LAYERS, [BITS], [DENSITY], coded_bits=[CODED]), dataflow="best", hardware=hardware)
    workload = Workload(LAYERS, [BITS], [DENSITY], coded_bits=[CODED])
    total = estimate_energy(workload, dataflow="best", hardware=hardware)
    assert report.total_energy == pytest.approx(total[0], rel=1e-12)
    parts = energy_breakdown(workload, dataflow=report.dataflow, hardware=hardware)
    cycles = estimate_cycles(workload, dataflow=report.dataflow, hardware=hardware)
    for index, row in enumerate(report.rows):
        assert (row.layer, row.macs) == (LAYERS[index].name, LAYERS[index].macs)
        assert (row.bits, row.density) == (BITS[index], DENSITY[index])
        assert row.energy == pytest.approx(parts.per_layer[0, index], rel=1e-12)
        assert row.energy_dram == parts.dram[0, index]
        assert row.cycles == cycles[0, index]
        assert row.stored_bytes == CODED[index] / 8
    assert report.total_bytes == sum(CODED) / 8
    assert report.total_cycles == pytest.approx(cycles.sum())


def test_stored_bytes_fall_back_to_the_uncoded_weights() -> None:
    hardware = load_hardware("emomc_fpga")
    uncoded = layer_report(Workload(LAYERS, [BITS], [DENSITY]), dataflow="xy", hardware=hardware)
    assert [row.stored_bytes for row in uncoded.rows] == [432 * 4 / 8, 160 * 6 / 8]
    stored = layer_report(Workload(LAYERS, [BITS], [DENSITY]), dataflow="xy", hardware=hardware, stored_bits=[800, 80])
    assert [row.stored_bytes for row in stored.rows] == [100, 10]


def test_buffer_fill_compares_the_largest_call_with_the_shared_buffer() -> None:
    hardware = load_hardware("eyeriss_ratio")
    report = layer_report(
        Workload(LAYERS, [BITS], [DENSITY], coded_bits=[CODED], activation_bits=8), dataflow="xy", hardware=hardware
    )
    assert report.rows[0].buffer_fill == pytest.approx(((3 + 16) * 64 * 8 + 700) / 884_736)
    assert report.rows[1].buffer_fill == pytest.approx((26 * 8 + 560) / 884_736)
    # Weights bypass this one's buffer.
    report = layer_report(
        Workload(LAYERS, [BITS], [DENSITY]), dataflow="xy", hardware=load_hardware("accelergy_eyeriss_32nm")
    )
    assert report.rows[0].buffer_fill == pytest.approx((3 + 16) * 64 * 8 / 1_048_576)
    report = layer_report(Workload(LAYERS, [BITS], [DENSITY]), dataflow="xy", hardware=load_hardware("emomc_fpga"))
    assert report.rows[0].buffer_fill is None


@pytest.mark.parametrize(("preset", "unit"), [("horowitz_45nm", "mj"), ("eyeriss_ratio", "mac16")])
def test_csv_holds_every_number_and_its_unit(preset: str, unit: str) -> None:
    report = layer_report(Workload(LAYERS, [BITS], [DENSITY]), dataflow="icoc", hardware=load_hardware(preset))
    rows = list(csv.DictReader(io.StringIO(report_csv(report))))
    assert [row["layer"] for row in rows] == ["stem.0", "head"]
    for row, cost in zip(rows, report.rows, strict=True):
        assert float(row[f"energy_{unit}"]) == cost.energy
        assert float(row[f"energy_dram_{unit}"]) == cost.energy_dram
        assert float(row["bytes"]) == cost.stored_bytes
        assert float(row["cycles"]) == cost.cycles
        assert float(row["buffer_fill"]) == cost.buffer_fill
        assert int(row["macs"]) == cost.macs
    if unit == "mac16":
        assert "mj" not in report_csv(report)


def test_csv_leaves_unknown_values_empty() -> None:
    report = layer_report(Workload(LAYERS, [BITS], [DENSITY]), dataflow="icoc", hardware=load_hardware("emomc_fpga"))
    assert report_csv(report).splitlines()[1].endswith(",")


@pytest.mark.parametrize("preset", WITH_ENERGY)
def test_table_shows_layers_totals_and_unit(preset: str) -> None:
    hardware = load_hardware(preset)
    report = layer_report(Workload(LAYERS, [BITS], [DENSITY]), dataflow="xfx", hardware=hardware)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report_table(report))
    text = console.export_text()
    assert f"{preset}, X|Fx, energies in {hardware.energy_label}" in text
    assert ("mJ" in text) == hardware.has_joules
    for word in ("stem.0", "head", "total", f"{CONV.macs + FC.macs:,}", f"{report.total_energy:.4g}"):
        assert word in text


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected density of shape \(candidates, 2\), found \(1, 1\)"):
        layer_report(Workload(LAYERS, [BITS], [[0.5]]), dataflow="xy", hardware=load_hardware("emomc_fpga"))
    with pytest.raises(UserError, match=r"expected stored_bits of shape \(2,\), found \(3,\)"):
        layer_report(
            Workload(LAYERS, [BITS], [DENSITY]),
            dataflow="xy",
            hardware=load_hardware("emomc_fpga"),
            stored_bits=np.ones(3),
        )
