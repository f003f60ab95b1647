"""``emomc-search`` says before an export what a point needs in C, and bounds it."""

import re
from pathlib import Path

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.fronts.front_file import read_front


def memory_in(header: str) -> dict:
    (arithmetic,) = re.findall(r"Arithmetic: (\w+)", header)
    ram, flash = (int(number) for number in re.findall(r"_(?:RAM|FLASH)_BYTES = (\d+)", header))
    return {"c_arithmetic": arithmetic, "ram_bytes": ram, "flash_bytes": flash}


@pytest.mark.parametrize(
    ("activation_bits", "coding"),
    [
        (8, "best"),
        pytest.param(5, "normal", marks=pytest.mark.slow),
        pytest.param(16, "huffman", marks=pytest.mark.slow),
    ],
)
def test_the_front_says_what_the_header_says(activation_bits, coding, library, search, run):
    found = search(library, [FrontWriter()], activation_bits=activation_bits, coding=coding, name="s")
    front = read_front(found.folder)
    assert {point["c_arithmetic"] for point in front["points"]} == {"int8" if activation_bits <= 8 else "float"}
    assert front["baseline"]["c_arithmetic"] == "float"
    if activation_bits <= 8:
        assert front["baseline"]["ram_bytes"] > 2 * max(point["ram_bytes"] for point in front["points"])
    for point in (front["points"][0], front["points"][-1]):
        options = ["--format", "c", "--output", "net.c", "--pick", f"index:{point['index']}"]
        ran = run("export", "--run", library.path.parent, *options)
        assert ran.status == 0, ran
        expected = memory_in(Path("net.h").read_text())
        assert {name: point[name] for name in expected} == expected
    genotype = found.front[0].genotype
    assert found.cost_model.ram_bytes(genotype) == front["points"][0]["ram_bytes"]


@pytest.mark.parametrize("bound", ["0.5", pytest.param("1%", marks=pytest.mark.slow)])
def test_a_constraint_below_the_least_ram_is_refused_before_the_search(bound, library, run):
    options = ["--ram_constraint", bound, "--activation_bits", "8", "--name", "s"]
    ran = run("search", "--library", library.path, *options)
    assert ran.status == 2
    assert len(ran.err.strip().splitlines()) == 1
    assert re.search(
        rf"a ram_constraint of {bound} to be met .* the least RAM possible is \d+\.\d\d KiB \([\d,]+ bytes\)", ran.err
    )
    assert not (library.path.parent / "search" / "s" / "front.json").exists()
