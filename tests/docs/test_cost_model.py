"""What docs/cost_model.md shows works as it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.workload import Workload
from emomc.networks.layers import LayerCall, LayerShape

TEXT = (Path(__file__).parents[2] / "docs" / "cost_model.md").read_text()
FILES = re.findall(r"```yaml\n(hardware:.*?)```", TEXT, re.DOTALL)


def test_every_hardware_file_is_one(tmp_path: Path) -> None:
    described = [text for text in FILES if "counts: table" not in text]
    assert (len(FILES), len(described)) == (3, 2)
    for text in described:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        assert load_hardware(path).counts == "reuse"


def test_the_worked_example_is_a_dense_array(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILES[1])
    hardware = load_hardware(path)
    layer = LayerShape("conv", "conv", 64, 64, (LayerCall((32, 32), (32, 32)),), (3, 3))
    dense, pruned = (Workload([layer], [[8]], [[density]]) for density in (1.0, 0.1))
    cycles = estimate_cycles(dense, dataflow="icoc", hardware=hardware).sum()
    # The port of the SRAM reads inputs, and reads and writes sums: a transfer a cycle.
    assert layer.macs / 256 <= cycles <= 4 * layer.macs / 256
    on = {"dataflow": "icoc", "hardware": hardware}
    np.testing.assert_array_equal(estimate_energy(dense, **on), estimate_energy(pruned, **on))
