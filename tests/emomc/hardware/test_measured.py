"""Tables of what was measured: read strictly, looked up by layer, and never more favourable than what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.hardware.description import load_hardware, load_target
from emomc.hardware.description_table import description_table, one_line
from emomc.hardware.layer_report import report_csv
from emomc.hardware.measured_costs import measured_costs
from emomc.hardware.measured_hardware import MeasuredHardware
from emomc.hardware.measured_report import measured_report
from emomc.hardware.measured_table import Form, MeasuredTable, shape_text
from emomc.hardware.network_costs import network_costs
from emomc.hardware.workload import ByLayer, Workload
from emomc.networks.layers import LayerCall, LayerShape

CONV = LayerShape("conv", "conv", 6, 16, (LayerCall((14, 14), (10, 10)),), (5, 5))
LINEAR = LayerShape("fc", "linear", 120, 84, (LayerCall((1, 1), (1, 1)), LayerCall((1, 1), (1, 1))))
SHAPE = "conv 6>16 5x5 s1x1 d1x1 g1 14x14>10x10"
HEAD = "layer,shape,weight_bits,activation_bits,density,ms,mj\n"
SOURCES = {"table": "made up"}
TABLE = f"""# a device, one thread
{HEAD}conv,{SHAPE},8,8,0.5,1,0.1
conv,{SHAPE},8,8,1,2,0.2
conv,{SHAPE},32,32,,4,0.5
fc,,8,8,,0.5,0.01
fc,,32,32,,3,0.03
"""


@pytest.fixture
def device(tmp_path: Path):
    def read(text: str = TABLE, form: str = "table:{}"):
        (tmp_path / "device.csv").write_text(text)
        return load_target(form.format(tmp_path / "device.csv"))

    return read


def workload(bits, inputs, density, layers=(CONV, LINEAR)) -> Workload:
    shape = (len(bits), len(layers))
    by_layer = ByLayer(np.broadcast_to(np.array(inputs)[:, None], shape), np.ones(shape), 32)
    columns = (np.broadcast_to(np.array(values, float)[:, None], shape) for values in (bits, density))
    return Workload(layers, *columns, activation_bits=by_layer)


def test_a_shape_is_told_in_one_text() -> None:
    assert shape_text(CONV, CONV.calls[0]) == SHAPE
    strided = LayerShape("x", "conv", 6, 6, (LayerCall((9, 8), (5, 4)),), (3, 5), (2, 2), (1, 1), 6)
    assert shape_text(strided, strided.calls[0]) == "conv 6>6 3x5 s2x2 d1x1 g6 9x8>5x4"


def test_a_layer_takes_the_next_wider_form_and_lies_between_densities(device) -> None:
    rows = workload([8, 8, 3, 9, 8, 8], [8, 8, 4, 8, 9, 8], [1.0, 0.75, 0.5, 0.1, 0.1, 0.2])
    found = measured_costs(rows, device())
    np.testing.assert_allclose(found.ms[:, 0], [2, 1.5, 1, 4, 4, 1])
    np.testing.assert_allclose(found.mj[:, 0], [0.2, 0.15, 0.1, 0.5, 0.5, 0.1])
    # By name, all calls together.
    np.testing.assert_allclose(found.ms[:, 1], [0.5, 0.5, 0.5, 3, 3, 0.5])


def test_a_shape_serves_every_call_of_every_layer(device) -> None:
    twice = LayerShape("other", "conv", 6, 16, CONV.calls * 2, (5, 5))
    assert measured_costs(workload([8], [8], [1.0], [twice]), device()).ms == [[4]]


def test_costs_are_milliseconds_and_no_cycles(device) -> None:
    rows = workload([8], [8], [1.0])
    costs = network_costs(rows, dataflow="xy", hardware=device(), aim="latency")
    assert {name: column.tolist() for name, column in costs.items()} == {
        "energy": [pytest.approx(0.21)],
        "latency_ms": [2.5],
    }
    without = "\n".join(line.rsplit(",", 1)[0] for line in TABLE.splitlines()[1:])
    assert [*network_costs(rows, dataflow="xy", hardware=device(without), aim="latency")] == ["latency_ms"]


def test_what_was_not_measured_is_an_error_by_name(device) -> None:
    pool = LayerShape("last", "linear", 84, 10, (LayerCall((1, 1), (1, 1)),))
    with pytest.raises(UserError, match=r"layer last or shape linear 84>10 1x1 .* in device.csv, found none"):
        measured_costs(workload([8], [8], [1.0], [pool]), device())
    narrow = TABLE.replace(f"conv,{SHAPE},32,32,,4,0.5\n", "")
    asked = "weights of 9 bits, inputs of 8 bits and density 0.3"
    words = rf"layer conv, shape .* at least {asked}, found 8 and 8 bits up to density 1"
    with pytest.raises(UserError, match=words):
        measured_costs(workload([8, 9], [8, 8], [1.0, 0.3]), device(narrow))
    # Denser than all that was measured.
    sparse = TABLE.replace(f"conv,{SHAPE},8,8,1,2,0.2\n", "")
    with pytest.raises(UserError, match=r"density 0.75, found 8 and 8 bits up to density 0.5; 32 and 32 bits"):
        measured_costs(workload([8], [8], [0.75]), device(sparse))


WRONG = {
    "nothing": ("", "in CSV at .*found nothing"),
    "no lines": (HEAD, "measurements below the names"),
    "another column": (HEAD.replace("mj", "watts") + "a,,8,8,,1,1\n", "each once, found 'watts'"),
    "a column twice": (HEAD.replace("mj", "ms") + "a,,8,8,,1,1\n", "each once, found 'ms'"),
    "no times": ("layer,weight_bits,activation_bits\na,8,8\n", "a column ms in"),
    "no names": ("weight_bits,activation_bits,ms\n8,8,1\n", "a column layer or shape"),
    "a cell too few": (HEAD + "a,,8,8,,1\n", "7 cells in line 2 of .*found 6"),
    "no layer": (HEAD + ",,8,8,,1,1\n", "a layer or a shape in line 2"),
    "half a bit": (HEAD + "a,,8.5,8,,1,1\n", r"weight_bits in line 2 of .* whole number of 1\.\.32, found '8.5'"),
    "too many bits": (HEAD + "a,,8,33,,1,1\n", "activation_bits in line 2"),
    "no time": (HEAD + "a,,8,8,,0,1\n", "ms in line 2 of .* above 0"),
    "not a number": (HEAD + "a,,8,8,,nan,1\n", "ms in line 2"),
    "too dense": (HEAD + "a,,8,8,1.5,1,1\n", "a density in line 2 of .* at most 1"),
    "some energies": (HEAD + "a,,8,8,,1,1\na,,32,32,,1,\n", "mj in every line of .* or in none, found none in line 3"),
    "twice": (HEAD + "a,,8,8,1,1,1\na,,8,8,1,2,1\n", "one line of .* for each density of layer a .*another: 3"),
    "with and without": (HEAD + "a,,8,8,1,1,1\na,,8,8,,2,1\n", "a density in every line .* or in none"),
    "open quotes": (HEAD + '"a,,8,8,,1,1\n', "in CSV at"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_refused_by_line_and_column(device, case: str) -> None:
    text, words = WRONG[case]
    with pytest.raises(UserError, match=words):
        device(text)


YAML = """hardware:
  version: 1
  name: bits
  technology: an array that works bit by bit
  counts: table
  table: device.csv
  between_bits: linear
  precision: {I: 8, O: 32}
  sources: {table: made up}
"""


def test_a_hardware_file_names_a_table_beside_it(device, tmp_path: Path) -> None:
    device(HEAD + "".join(f"fc,,{w},{a},,{w * a / 10},{w}\n" for w in (2, 8) for a in (4, 8)))
    (tmp_path / "bits.yaml").write_text(YAML)
    found = load_target(tmp_path / "bits.yaml")
    assert isinstance(found, MeasuredHardware)
    costs = measured_costs(workload([5, 8, 1, 2], [6, 8, 2, 5], [1.0] * 4, [LINEAR]), found)
    np.testing.assert_allclose(costs.ms[:, 0], [3.0, 6.4, 0.8, 1.0])
    assert "linear" in str(found.to_dict())
    assert "an array that works bit by bit" in one_line(found)
    assert description_table(found).row_count == 5
    with pytest.raises(UserError, match=r"counts of paper or reuse, found the table device\.csv"):
        load_hardware(tmp_path / "bits.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("linear", "cubic", "between_bits: expected one of next, linear"),
        ("table: device.csv", "table: ''", "table: expected a text"),
        ("{table: made up}", "{}", "sources.table: expected how"),
        ("version: 1", "version: 2", "version: expected 1"),
        ("counts: table", "counts: table\n  memories: []", "memories: expected one of .* unknown key"),
        ("table: device.csv", "table: nowhere.csv", "table of measurements at .*nowhere.csv"),
    ],
)
def test_a_wrong_hardware_file_is_refused_by_path(device, tmp_path: Path, old: str, new: str, words: str) -> None:
    device(HEAD + "fc,,8,8,,1,1\n")
    (tmp_path / "bits.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(UserError, match=words):
        load_target(tmp_path / "bits.yaml")


def test_a_line_between_widths_needs_every_pair(device, tmp_path: Path) -> None:
    device(HEAD + "fc,,8,8,,1,1\nfc,,2,4,,1,1\n")
    (tmp_path / "bits.yaml").write_text(YAML)
    with pytest.raises(UserError, match=r"fc with weights of 2 and inputs of 8 bits in device\.csv"):
        load_target(tmp_path / "bits.yaml")


def test_a_report_has_a_line_a_layer(device) -> None:
    report = measured_report(workload([8], [8], [1.0]), device(), stored_bits=[800.0, 80.0])
    assert report_csv(report).splitlines()[:2] == [
        "layer,kind,macs,bits,density,bytes,latency_ms,energy_mj",
        "conv,conv,240000,8,1.0,100.0,2.0,0.2",
    ]
    assert (report.total_ms, report.total_mj) == (2.5, pytest.approx(0.21))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["next", "linear"]),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=3, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_wider_and_denser_never_takes_less(between: str, densities: list[float], seed: int) -> None:
    generator, widths = np.random.default_rng(seed), (2, 4, 8, 32)
    # Times that rise with weights, inputs and density.
    steps = generator.random((len(widths), len(widths), len(densities))) + 0.01
    ms = steps.cumsum(0).cumsum(1).cumsum(2)
    places = np.array([*sorted(densities)[:-1], 1.0])
    forms = [Form(w, a, places, ms[i, j], 2 * ms[i, j]) for i, w in enumerate(widths) for j, a in enumerate(widths)]
    table = MeasuredTable("t.csv", "", "", {}, {"fc": forms}, has_energy=True)
    device = MeasuredHardware("mine", "made up", table, between, sources=SOURCES)
    bits, inputs, density = generator.integers(1, 32, 9), generator.integers(1, 32, 9), generator.random(9)
    less = measured_costs(workload(bits, inputs, density, [LINEAR]), device)
    for more in ((bits + 1, inputs, density), (bits, inputs + 1, density), (bits, inputs, (1 + density) / 2)):
        found = measured_costs(workload(*more, [LINEAR]), device)
        assert np.all(found.ms * (1 + 1e-9) >= less.ms)
        np.testing.assert_allclose(found.mj, 2 * found.ms)
    assert ms.min() * (1 - 1e-9) <= less.ms.min() <= less.ms.max() <= ms.max() * (1 + 1e-9)
