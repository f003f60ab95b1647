from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from emomc.common.errors import UserError
from emomc.hardware.description import Hardware, Memory, OperationalArray, Precision, load_hardware, preset_names
from emomc.hardware.mac_energy import AffineMac, BilinearMac, TableMac

VALID: dict[str, Any] = {
    "hardware": {
        "version": 1,
        "name": "mine",
        "technology": "28 nm",
        "energy_unit": "pJ",
        "counts": "reuse",
        "precision": {"I": 8, "O": 16},
        "operational_array": {"sizes": [4, 8], "mac": {"model": "bilinear", "per_bit2": 0.01, "add": 0.1}},
        "memories": [
            {
                "name": "register",
                "operands": ["I", "W", "O"],
                "word_bits": 16,
                "r_cost": 0.1,
                "w_cost": 0.2,
                "per_pe": True,
            },
            {"name": "buffer", "operands": ["I", "W", "O"], "word_bits": 64, "r_cost": 10, "w_cost": 12.5},
        ],
        "clock_mhz": 100,
        "sources": {"mac": "datasheet", "memories": "datasheet"},
    }
}


def write(folder: Path, document: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The valid document with one value replaced, or removed where the value is ``...``."""
    document = copy.deepcopy(VALID)
    target: Any = document["hardware"]
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return document


def test_presets_are_the_shipped_ones() -> None:
    assert preset_names() == [
        "accelergy_eyeriss_32nm",
        "accelergy_tensor_core_45nm",
        "cortex_m4_cmsis_nn",
        "cortex_m7_cmsis_nn",
        "dpuczdx8g_b1024",
        "emomc_fpga",
        "ethos_u55_256",
        "eyeriss_ratio",
        "gap8_pulp_nn",
        "gemmini_16x16",
        "horowitz_45nm",
        "mpic_riscv",
    ]


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_named_as_its_file_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    hardware = load_hardware(name)
    assert hardware.name == name
    assert load_hardware(write(tmp_path, hardware.to_dict())) == hardware


def test_emomc_fpga_has_the_numbers_of_the_paper() -> None:
    hardware = load_hardware("emomc_fpga")
    assert hardware.operational_array == OperationalArray(None, AffineMac(1.02, 1.02))
    assert hardware.memories == (Memory("buffer", ("I", "W", "O"), 16, 7.28, 4.47, extra_weight_bits=1),)
    assert (hardware.counts, hardware.energy_unit, hardware.precision) == ("paper", "pJ", Precision(16, 16))


def test_presets_agree_with_their_sources() -> None:
    eyeriss = load_hardware("eyeriss_ratio")
    assert [memory.r_cost for memory in eyeriss.memories] == [1, 6, 200]
    mac = eyeriss.operational_array.mac
    assert isinstance(mac, BilinearMac)
    assert mac.per_bit2 * 16 * 16 + mac.add == 1
    horowitz = load_hardware("horowitz_45nm")
    assert [memory.r_cost for memory in horowitz.memories] == [20, 100, 1300]
    mac = horowitz.operational_array.mac
    assert isinstance(mac, BilinearMac)
    assert mac.per_bit2 * 8 * 8 == pytest.approx(0.2)
    accelergy = load_hardware("accelergy_eyeriss_32nm")
    assert accelergy.operational_array.mac == TableMac(8, {8: 0.207692})
    assert [memory.r_cost for memory in accelergy.memories] == [0.202442, 1.976602, 0.2513, 18.183829, 512]


def test_relative_hardware_knows_no_joules() -> None:
    assert not load_hardware("eyeriss_ratio").has_joules
    assert load_hardware("eyeriss_ratio").energy_label == "16-bit MACs"
    assert load_hardware("emomc_fpga").energy_label == "mJ"


def test_off_chip_is_the_outermost_of_several_shared_memories() -> None:
    assert load_hardware("emomc_fpga").off_chip is None
    dram = load_hardware("eyeriss_ratio").off_chip
    assert dram is not None
    assert dram.name == "dram"


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    hardware = load_hardware(write(tmp_path, VALID))
    register, buffer = hardware.memories
    assert hardware.operational_array.sizes == (4, 8)
    assert register.per_pe
    assert not buffer.per_pe
    assert (buffer.extra_weight_bits, buffer.size_bits, buffer.bw_bits_per_cycle) == (0, None, None)
    assert hash(hardware) == hash(load_hardware(write(tmp_path, VALID)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("memories.0.r_cost", -1, "memories[0].r_cost: expected a finite number >= 0, found -1"),
        ("memories.0.r_cost", float("nan"), "memories[0].r_cost: expected a finite number >= 0, found nan"),
        ("memories.1.w_cost", float("inf"), "memories[1].w_cost: expected a finite number >= 0, found inf"),
        ("memories.1.w_cost", 1e308, "memories[1].w_cost: expected a number below 1e18, found 1e+308"),
        ("memories.1.w_cost", "1e-3", "memories[1].w_cost: expected a finite number >= 0, found the text"),
        ("memories.1.w_cost", True, "memories[1].w_cost: expected a finite number >= 0, found True"),
        ("memories.1.w_cost", ..., "memories[1].w_cost: expected a value, found nothing"),
        ("memories.1.wcost", 1, "memories[1].wcost: expected one of name, operands"),
        ("memories.1.word_bits", 0, "memories[1].word_bits: expected an integer >= 1, found 0"),
        ("memories.1.word_bits", 16.5, "memories[1].word_bits: expected an integer >= 1, found 16.5"),
        ("memories.1.operands", ["I", "X"], "memories[1].operands: expected one or more of I, W, O"),
        ("memories.1.operands", ["I", "I"], "memories[1].operands: expected one or more of I, W, O"),
        ("memories.1.operands", ["I", ["W"]], "memories[1].operands: expected one or more of I, W, O"),
        ("memories.1.operands", ["I", "W"], "memories: expected a shared memory that holds O, found none"),
        ("memories.1.name", "register", "memories[1].name: expected a unique name, found 'register' twice"),
        ("memories.1.per_pe", True, "memories: expected at most one per-PE memory for I, found several"),
        ("memories.1.per_pe", "yes", "memories[1].per_pe: expected true or false, found the text 'yes'"),
        ("memories.1.extra_weight_bits", -1, "memories[1].extra_weight_bits: expected an integer >= 0"),
        ("memories.1.size_bits", 0, "memories[1].size_bits: expected an integer >= 1, found 0"),
        ("memories.1.bw_bits_per_cycle", 0, "memories[1].bw_bits_per_cycle: expected a finite number > 0"),
        ("memories", [], "memories: expected at least one memory, found none"),
        ("memories", "none", "memories: expected a list of memories, innermost first, found the text"),
        ("memories.0", None, "memories[0]: expected keys with values, found nothing"),
        ("energy_unit", "joules", "energy_unit: expected one of pJ, mac16, none, found the text 'joules'"),
        ("counts", "exact", "counts: expected one of paper, reuse, table, found the text 'exact'"),
        ("version", 2, "version: expected 1, found 2"),
        ("version", ..., "version: expected a value, found nothing"),
        ("precision.I", 0, "precision.I: expected an integer >= 1, found 0"),
        ("precision.W", 8, "precision.W: expected one of I, O, found an unknown key"),
        ("operational_array.sizes", [0, 8], "operational_array.sizes[0]: expected a number of PEs"),
        ("operational_array.sizes", [8], "operational_array.sizes: expected null or two numbers of PEs"),
        ("operational_array.sizes", ..., "operational_array.sizes: expected a value, found nothing"),
        ("operational_array.mac.model", "cubic", "operational_array.mac.model: expected one of affine"),
        ("operational_array.mac.base", 1, "operational_array.mac.base: expected one of per_bit2, add"),
        ("operational_array.mac.add", None, "operational_array.mac.add: expected a finite number >= 0"),
        ("clock_mhz", 0, "clock_mhz: expected a finite number > 0, found 0"),
        ("sources.mac", ..., "sources.mac: expected the source of the numbers, found nothing"),
        ("sources.memories", "", "sources.memories: expected a text"),
        ("sources", ..., "sources: expected a value, found nothing"),
        ("sources", "a book", "sources: expected a text for mac and one for memories, found the text 'a book'"),
        ("name", 7, "name: expected a text, found 7"),
        ("colour", "red", "colour: expected one of name, technology"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(path: str, value: Any, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, changed(path, value))
    with pytest.raises(UserError) as caught:
        load_hardware(file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_shared_memory_before_a_register_is_refused(tmp_path: Path) -> None:
    document = copy.deepcopy(VALID)
    document["hardware"]["memories"].reverse()
    with pytest.raises(UserError, match=r"memories\[1\].per_pe: expected per-PE memories before shared ones"):
        load_hardware(write(tmp_path, document))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hardware: {name: a, name: b}", "found: the key 'name' twice"),
        ("hardware: [", "expected a hardware file in YAML"),
        ("", "hardware: expected this key alone at the top level of the file, found nothing"),
        ("accelerator: {}", "hardware: expected this key alone at the top level of the file, found the keys acc"),
        ("hardware: 3", "hardware: expected keys with values, found 3"),
        ("hardware: {? [1] : 2}", "found: while constructing a mapping"),
        ("hardware: {word_bits: 064}", "found: 064, which YAML reads as 52"),
        ("hardware: {clock_mhz: 4:00}", "found: 4:00, which YAML reads as 240"),
        ("hardware: {clock_mhz: 4:00.5}", "found: 4:00.5, which YAML reads as 240.5"),
    ],
)
def test_a_file_that_is_no_description_gets_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_hardware(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_presets() -> None:
    with pytest.raises(
        UserError, match=r"one of accelergy_eyeriss_32nm, .*emomc_fpga, .* found none of them under 'tpu'"
    ):
        load_hardware("tpu")


def test_paper_counts_refuse_what_they_would_ignore() -> None:
    hardware = load_hardware("emomc_fpga")
    with pytest.raises(UserError, match=r"operational_array.sizes: expected null .* found \[4, 4\]"):
        dataclasses.replace(hardware, operational_array=OperationalArray((4, 4), AffineMac(1, 1)))
    with pytest.raises(UserError, match="memories: expected one memory with counts: paper, found 2"):
        dataclasses.replace(hardware, memories=(*hardware.memories, Memory("dram", ("I",), 16, 1, 1)))
    with pytest.raises(UserError, match="memories: expected one memory with counts: paper, found 3"):
        dataclasses.replace(
            load_hardware("horowitz_45nm"), counts="paper", operational_array=hardware.operational_array
        )


def test_table_of_multipliers_is_checked() -> None:
    with pytest.raises(UserError, match=r"by_weight_bits: expected energies by weight bits, found {}"):
        TableMac(8, {})
    with pytest.raises(UserError, match=r"by_weight_bits: expected weight bits .* found 0"):
        TableMac(8, {0: 1.0})
    with pytest.raises(UserError, match=r"by_weight_bits.4: expected a finite number >= 0, found -1"):
        TableMac(8, {4: -1})


def test_hardware_can_be_made_in_python() -> None:
    hardware = Hardware(
        name="mine",
        technology="22 nm",
        energy_unit="pJ",
        counts="reuse",
        precision=Precision(8, 24),
        operational_array=OperationalArray((8, 8), AffineMac(0.1, 0.02)),
        memories=(Memory("buffer", ("I", "W", "O"), 32, 1.0, 1.2),),
        sources={"mac": "a measurement", "memories": "a measurement"},
    )
    assert Hardware.from_dict(hardware.to_dict()) == hardware
