"""``emomc-hardware``: shows, checks and costs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from emomc.cli.hardware import main
from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import load_hardware, preset_names
from emomc.hardware.energy import estimate_energy
from emomc.hardware.workload import Workload
from emomc.networks.graph import trace_network
from emomc.networks.zoo import LeNet5


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command and return its exit status and what it printed."""

    def run(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_without_arguments_every_preset_has_a_line(told: Any) -> None:
    status, out, _ = told()
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == preset_names()


@pytest.mark.parametrize("name", preset_names())
def test_a_description_is_told_in_words(told: Any, name: str) -> None:
    status, out, _ = told(name)
    hardware = load_hardware(name)
    assert status == 0
    for memory in hardware.memories:
        assert f"memory {memory.name}" in out
    for key in hardware.sources:
        assert f"source of {key}" in out
    assert ("not known: cycles only" in out) == (not hardware.has_energy)


def test_a_network_is_costed_layer_by_layer_and_beside_others(told: Any) -> None:
    status, out, _ = told(
        "eyeriss_ratio",
        "--network",
        "lenet5",
        "--bits",
        4,
        "--dataflow",
        "icoc",
        "--beside",
        "horowitz_45nm",
        "emomc_fpga",
    )
    assert status == 0
    graph = trace_network(LeNet5(), (1, 32, 32))
    for layer in graph.layers:
        assert layer.name in out
    ones = np.ones((1, len(graph.layers)))
    workload = Workload(graph.layers, 4 * ones, ones, maps=graph.maps)
    for name in ("eyeriss_ratio", "horowitz_45nm", "emomc_fpga"):
        hardware = load_hardware(name)
        for dataflow in DATAFLOWS:
            (energy,) = estimate_energy(workload, dataflow=dataflow, hardware=hardware)
            assert any(name in line and f"{energy:.4g}" in line for line in out.splitlines()), (name, dataflow)
    assert "they fit" in out


def test_every_wrong_entry_is_named(told: Any, tmp_path: Path) -> None:
    values = copy.deepcopy(load_hardware("eyeriss_ratio").to_dict())
    described = values["hardware"]
    described["memories"][0]["r_cost"] = -1
    described["memories"][2]["size_bits"] = "large"
    described["operational_array"]["sizes"] = [0, 4]
    described["colour"] = "red"
    described["zero_skipping"]["W"] = "sometimes"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    status, _, err = told(path)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "5 wrong entries" in err
    for words in (
        "memories[0].r_cost: expected a finite number >= 0, found -1",
        "memories[2].size_bits: expected an integer >= 1, found the text 'large'",
        "operational_array.sizes[0]: expected a number of PEs",
        "colour: expected one of",
        "zero_skipping.W: expected one of none, gated, skipped, structured, found the text 'sometimes'",
    ):
        assert words in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "expected a hardware file, table:FILE.csv or one of"),
        (["emomc_fpga", "--beside", "horowitz_45nm"], "expected --network with --beside"),
        (["--network", "lenet5"], "expected hardware to cost a network with"),
        (["emomc_fpga", "--network", "lenet5", "--bits", "33"], "expected finite bits in 1..32"),
        (["emomc_fpga", "--network", "lenet5", "--density", "1.5"], "expected finite density in 0..1"),
        (["emomc_fpga", "--network", "lenet5", "--input_shape", "1", "32"], "expected --input_shape with channels"),
        (["emomc_fpga", "--network", "lenet5", "--classes", "0"], "expected --classes of at least 1"),
    ],
)
def test_wrong_options_get_one_line(told: Any, words: list[str], message: str) -> None:
    status, _, err = told(*words)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_names_are_shown_as_they_are_written(told: Any, tmp_path: Path) -> None:
    values = copy.deepcopy(load_hardware("eyeriss_ratio").to_dict())
    values["hardware"]["name"] = "npu [fast]:100:"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    status, out, _ = told(tmp_path / "mine.yaml", "--network", "lenet5")
    assert status == 0
    assert out.count("npu [fast]:100:") > 2
