"""Descriptions of hardware and configurations that are no such thing: status 2, one line, and nothing changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from emomc.hardware.description import load_hardware

TINY = ("--population_size", 4, "--number_generations", 1, "--max_bits", 4)
TINY += ("--rounding", "nearest", "--accelerator", "cpu")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

HARDWARE: dict[str, tuple[str | bytes, str]] = {
    "a picture": (PNG, "hardware file at .*cannot be read"),
    "an empty file": ("", "hardware.*nothing"),
    "a list": ("- 1\n", "hardware"),
    "no YAML": ("hardware: {name: [\n", "YAML"),
    "a key twice": ("hardware: {}\nhardware: {}\n", "'hardware' twice"),
    "a Python object": ("hardware: !!python/object/apply:os.system ['echo let in > let_in']\n", "YAML .*python/object"),
    "nested too deep": ("hardware: " + "[" * 5000, "YAML"),
    "a bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "YAML",
    ),
}


@pytest.fixture(scope="module")
def preset() -> dict[str, Any]:
    return load_hardware("eyeriss_ratio").to_dict()["hardware"]


@pytest.mark.parametrize("case", HARDWARE)
def test_hardware(refused, library, tmp_path, case):
    content, words = HARDWARE[case]
    (tmp_path / "own.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("search", "--library", library.path, *TINY, "--hardware", tmp_path / "own.yaml", words=words)


NUMBERS: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "zero PEs": (("operational_array", "sizes"), [0, 14], "sizes.*0"),
    "no PEs": (("operational_array", "sizes"), [], "sizes"),
    "half a PE": (("operational_array", "sizes"), [12, 1.5], r"sizes.*1\.5"),
    "a negative energy": (("memories", 0, "r_cost"), -1, r"memories\[0\]\.r_cost.*-1"),
    "an energy of NaN": (("memories", 0, "w_cost"), float("nan"), r"w_cost.*nan"),
    "words of 0 bits": (("memories", 0, "word_bits"), 0, "word_bits.*0"),
    "no memories": (("memories",), [], "memories"),
    "an unknown unit": (("energy_unit",), "calories", "energy_unit.*calories"),
    "a newer version": (("version",), 2, "version.*2"),
    "no sources": (("sources",), {}, "sources"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_hardware_numbers(refused, library, tmp_path, preset, case):
    place, value, words = NUMBERS[case]
    values = json.loads(json.dumps(preset))
    part = values
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"hardware": values}))
    refused("search", "--library", library.path, *TINY, "--hardware", tmp_path / "own.yaml", words=words)


CONFIGS: dict[str, str | bytes] = {name: content for name, (content, _) in HARDWARE.items() if name != "an empty file"}


@pytest.mark.parametrize("command", ["pretrain", "search", "export"])
@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(refused, tmp_path, command, case):
    content = CONFIGS[case]
    (tmp_path / "own.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(command, "--config", tmp_path / "own.yaml", words="own.yaml|hardware|list")
