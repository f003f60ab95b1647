"""Energies from the tables that Accelergy writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from emomc.common.errors import UserError
from emomc.hardware.accelergy import read_energies
from emomc.hardware.description import load_hardware

# As in the Eyeriss-like example design of Timeloop and Accelergy.
ERT = """
ERT:
    version: '0.4'
    tables:
      - name: system_top_level.DRAM[1..1]
        actions:
          - name: leak
            arguments: {global_cycle_seconds: 1e-09}
            energy: 0.0
          - {name: write, arguments: {}, energy: 512.0}
          - {name: read, arguments: {}, energy: 512.0}
      - name: system_top_level.shared_glb[1..1]
        actions:
          - {name: write, arguments: {}, energy: 14.137929}
          - {name: read, arguments: {}, energy: 18.183829}
      - name: system_top_level.mac[1..168]
        actions:
          - {name: compute, arguments: {}, energy: 0.207692}
"""
SUMMARY = ERT.replace("ERT:", "ERT_summary:").replace("tables:", "table_summary:")


def described() -> dict[str, Any]:
    values = load_hardware("accelergy_eyeriss_32nm").to_dict()["hardware"]
    values["memories"] = [
        {"name": "shared_glb", "operands": ["I", "O"], "word_bits": 64},
        {"name": "DRAM", "operands": ["I", "W", "O"], "word_bits": 64, "w_cost": 500},
    ]
    values["operational_array"]["mac"]["by_weight_bits"] = {8: "mac"}
    return {**values, "energies": "ert.yaml"}


def load(folder: Path, values: dict[str, Any], table: str = ERT) -> Any:
    (folder / "ert.yaml").write_text(table)
    (folder / "mine.yaml").write_text(yaml.safe_dump({"hardware": values}))
    return load_hardware(folder / "mine.yaml")


@pytest.mark.parametrize("table", [ERT, SUMMARY])
def test_memories_and_macs_take_what_their_components_take(tmp_path: Path, table: str) -> None:
    hardware = load(tmp_path, described(), table)
    buffer, dram = hardware.memories
    assert (buffer.r_cost, buffer.w_cost) == (18.183829, 14.137929)
    # What the file says itself counts.
    assert (dram.r_cost, dram.w_cost) == (512.0, 500)
    assert hardware.operational_array.mac.by_weight_bits == {8: 0.207692}


def test_what_the_table_lacks_is_named(tmp_path: Path) -> None:
    values = described()
    values["memories"][0]["name"] = "buffer"
    words = r"memories\[0\].r_cost: expected a component 'buffer' with read in the table, found DRAM, shared_glb"
    with pytest.raises(UserError, match=words):
        load(tmp_path, values)
    values = described()
    values["operational_array"]["mac"]["by_weight_bits"] = {8: "multiplier"}
    with pytest.raises(UserError, match=r"operational_array.mac.by_weight_bits.8: expected a component 'multiplier'"):
        load(tmp_path, values)
    with pytest.raises(UserError, match="energy_unit: expected pJ with energies of a file"):
        load(tmp_path, {**described(), "energy_unit": "mac16"})
    with pytest.raises(UserError, match="energies: expected the name of a file"):
        load(tmp_path, {**described(), "energies": 3})
    with pytest.raises(UserError, match=r"energy reference table of Accelergy at .*nowhere"):
        load(tmp_path, {**described(), "energies": "nowhere.yaml"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ERT: 3", "expected ERT with tables"),
        ("- 1", "expected ERT with tables"),
        (ERT.replace("energy: 18.183829", "energy: -1"), r"tables\[1\].actions\[1\].energy"),
        (ERT.replace("energy: 18.183829", "joules: 1"), r"tables\[1\].actions\[1\].energy"),
        (ERT.replace("name: write, arguments: {}, energy: 512.0", "name: read, energy: 3"), "one energy of read"),
        (ERT.replace("name: system_top_level.mac[1..168]", "title: mac"), r"tables\[2\]: expected a name and actions"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "ert.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        read_energies(tmp_path / "ert.yaml")
