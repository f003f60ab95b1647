"""``emomc-measure``, and searches for hardware whose energies or cycles are not known."""

from __future__ import annotations

import csv
import importlib.util
import json

import pytest

from emomc.fronts.front_file import read_front

QUICK = ("--seconds", 0.001, "--rounds", 1)
TINY = ("--population_size", 4, "--number_generations", 1, "--max_bits", 8, "--accelerator", "cpu")
TINY += ("--rounding", "nearest")

WRONG = {
    "nothing to measure": (("--output", "a.csv"), "--library .* or --network .*, found neither"),
    "both": (("--library", "x", "--network", "lenet5", "--output", "a.csv"), "found both"),
    "no output": (("--network", "lenet5"), "--output with a file to write, found none"),
    "a folder": (("--network", "lenet5", "--output", "/"), "found the folder /"),
    "no threads": (("--network", "lenet5", "--output", "a.csv", "--threads", 0), r"1\.\.1024 threads, found 0"),
    "no such network": (("--network", "nonet", "--output", "a.csv"), "a network among .*'nonet'"),
    "no such library": (("--library", "nowhere", "--output", "a.csv"), "manifest of a library at nowhere"),
    "no classes": (("--network", "lenet5", "--classes", 0, "--output", "a.csv"), "--classes of at least 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused(refused, case):
    arguments, words = WRONG[case]
    refused("measure", *arguments, words=words)


def test_the_extra_is_missed_by_name(refused, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnxruntime" else found(name))
    words = r"expected the packages of pip install 'emomc\[export\]', found no onnxruntime"
    refused("measure", "--network", "lenet5", "--output", "a.csv", words=words)


def test_a_table_of_a_library_serves_its_search(run, library, tmp_path):
    ran = run("measure", "--library", library.path, "--output", "cpu.csv", *QUICK)
    assert ran.status == 0, ran
    shown = run("hardware", "table:cpu.csv", "--network", "lenet5", "--activation_bits", 8, "--beside", "emomc_fpga")
    assert shown.status == 0, shown
    assert "cpu, as measured" in shown.out
    assert "emomc_fpga" in shown.out
    search = ("--library", library.path, *TINY, "--hardware", "table:cpu.csv")
    refused = run("search", *search)
    assert refused.status == 2
    assert "as no energies are known of cpu, found energy" in refused.err
    wide = run("search", *search, "--objectives", "accuracy", "latency", "--name", "wide")
    assert "--activation_bits 8 rounds them" in wide.err
    ran = run("search", *search, "--objectives", "accuracy", "latency", "--activation_bits", 8, "--layers", "pick")
    assert ran.status == 0, ran
    (folder,) = (library.path.parent / "search").glob("accuracy-latency-cpu-*")
    front = read_front(folder)
    with (folder / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    for point, row in zip(front["points"], rows, strict=True):
        assert "energy_mj" not in point
        assert "cycles" not in point
        assert point["latency_ms"] > 0
        assert float(row["latency_ms"]) == point["latency_ms"]
        assert not any("energy" in name or name == "cycles" for name in row)
    assert front["hardware_description"]["table_sha256"]
    assert "latency_ms" in next(folder.glob("layers_*.csv")).read_text()


def test_a_search_without_energies_has_none(run, library):
    search = ("search", "--library", library.path, *TINY, "--hardware", "gemmini_16x16")
    ran = run(*search, "--objectives", "accuracy", "latency", "size", "--pick", "knee", "--name", "a")
    assert ran.status == 0, ran
    folder = library.path.parent / "search" / "a"
    front = json.loads((folder / "front.json").read_text())
    assert all("energy_mj" not in entry for entry in (front["baseline"], *front["points"]))
    assert all("energy_by_layer" not in point and point["dataflow"] for point in front["points"])
    page = (folder / "report.html").read_text()
    assert '"energy_mj":' not in page.split('"labels"')[0]
    assert "energy" not in (folder / "front.csv").read_text()
    shown = run("export", "--run", folder, "--output", "picked.emomc", "--pick", "within:50")
    assert shown.status == 0, shown


NO_ENERGY = {
    "energy as an objective": (("--objectives", "accuracy", "energy"), "objectives among accuracy, size and latency"),
    "a bound on energy": (("--objectives", "accuracy", "size", "--energy_constraint", "10%"), "constraints among size"),
    "a budget of energy": (
        ("--objectives", "accuracy", "size", "--pick", "budget:energy_mj=1"),
        "cost of this search, size_kib, cycles, in the pick",
    ),
}


@pytest.mark.parametrize("case", NO_ENERGY)
def test_energies_that_are_not_known_are_refused_first(refused, library, case):
    arguments, words = NO_ENERGY[case]
    refused("search", "--library", library.path, *TINY, "--hardware", "gemmini_16x16", *arguments, words=words)
