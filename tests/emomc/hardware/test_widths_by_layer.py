"""Bits of inputs and outputs by layer: costs grow with them, and equal ones are as one number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import ENERGY_PARTS, energy_breakdown, estimate_energy
from emomc.hardware.layer_report import layer_report
from emomc.hardware.workload import ByLayer, Workload
from emomc.networks.layers import LayerCall, LayerShape

SETTINGS = settings(max_examples=40, deadline=None)
HARDWARE = ("emomc_fpga", "eyeriss_ratio", "horowitz_45nm", "accelergy_eyeriss_32nm")
LAYERS = (
    LayerShape("conv", "conv", 3, 8, (LayerCall((12, 12), (10, 10)),), kernel_size=(3, 3)),
    # Called twice: a layer's bits are those of both calls.
    LayerShape("twice", "conv", 8, 8, (LayerCall((10, 10), (10, 10)),) * 2, groups=8, kernel_size=(3, 3)),
    LayerShape("linear", "linear", 800, 10, (LayerCall((1, 1), (1, 1)),)),
)
WIDTHS = st.lists(st.integers(2, 16), min_size=3, max_size=3)


def workload(inputs, outputs=None, rows=1, density=0.4):
    bits = [[4.0, 3.0, 8.0]] * rows
    by_layer = isinstance(inputs, np.ndarray)
    widths = ByLayer(inputs, inputs if outputs is None else outputs, 16) if by_layer else inputs
    return Workload(LAYERS, bits, [[density, 1.0, 0.1]] * rows, [[300.0, 200.0, 9000.0]] * rows, widths)


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("dataflow", ["xy", "best"])
def test_equal_bits_are_one_number(hardware, dataflow):
    on = {"dataflow": dataflow, "hardware": load_hardware(hardware)}
    for width in (3, 8, 16):
        number, arrays = workload(width, rows=2), workload(np.full((2, 3), width), np.full((2, 3), width), rows=2)
        np.testing.assert_array_equal(estimate_energy(number, **on), estimate_energy(arrays, **on))
        np.testing.assert_array_equal(estimate_cycles(number, **on), estimate_cycles(arrays, **on))
        one, other = (energy_breakdown(some, **on) for some in (number, arrays))
        for part in ENERGY_PARTS:
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


@SETTINGS
@given(WIDTHS, WIDTHS, WIDTHS, st.sampled_from(HARDWARE), st.sampled_from(["xy", "icoc", "fxfy", "xfx", "best"]))
def test_energy_grows_with_the_bits_of_any_layer(inputs, outputs, more, hardware, dataflow):
    on = {"dataflow": dataflow, "hardware": load_hardware(hardware)}
    few = np.array([inputs, outputs], float)
    many = np.minimum(few + np.array([more, more]), 32)
    (least,) = estimate_energy(workload(few[:1], few[1:]), **on)
    for wider in ((many[:1], few[1:]), (few[:1], many[1:]), (many[:1], many[1:])):
        assert estimate_energy(workload(*wider), **on)[0] >= least * (1 - 1e-12)


@pytest.mark.parametrize("hardware", HARDWARE)
def test_each_candidate_has_its_own(hardware):
    on = {"dataflow": "best", "hardware": load_hardware(hardware)}
    generator = np.random.default_rng(0)
    # More than fit into one block.
    inputs, outputs = generator.integers(2, 17, (2, 6000, 3))
    together = estimate_energy(workload(inputs, outputs, rows=6000), **on)
    for row in (0, 17, 5999):
        one = slice(row, row + 1)
        assert together[row] == estimate_energy(workload(inputs[one], outputs[one]), **on)[0]


def test_only_the_layer_itself_costs_more():
    on = {"dataflow": "xy", "hardware": load_hardware("horowitz_45nm")}
    few, more = (energy_breakdown(workload(np.array([[4, width, 4]]), np.full((1, 3), 4)), **on) for width in (4, 8))
    np.testing.assert_array_equal((few.mac != more.mac)[0], [False, True, False])
    np.testing.assert_array_equal((few.per_layer != more.per_layer)[0], [False, True, False])
    np.testing.assert_array_equal(few.output, more.output)


def test_the_papers_outputs_keep_their_bits():
    on = {"dataflow": "icoc", "hardware": load_hardware("emomc_fpga")}
    wide = energy_breakdown(workload(None), **on)
    narrow = energy_breakdown(workload(np.array([[8, 4, 16]]), np.full((1, 3), 4)), **on)
    np.testing.assert_allclose(narrow.input, wide.input * [[0.5, 0.25, 1.0]])
    for part in ("mac", "weight", "output"):
        np.testing.assert_array_equal(getattr(narrow, part), getattr(wide, part))


def test_a_report_fills_memories_with_them():
    on = {"dataflow": "xy", "hardware": load_hardware("accelergy_eyeriss_32nm")}
    wide, narrow = (
        layer_report(workload(np.array([[16, bits, 16]]), np.full((1, 3), 16)), **on).rows for bits in (16, 2)
    )
    assert narrow[1].buffer_fill < wide[1].buffer_fill
    assert narrow[0].buffer_fill == wide[0].buffer_fill


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        (ByLayer([[4, 4]], [[4, 4, 4]], 16), r"input_bits of shape \(candidates, 3\), found \(1, 2\)"),
        (ByLayer([[4, 0, 4]], [[4, 4, 4]], 16), r"input_bits in 1\.\.32, found 0"),
        (ByLayer([[4, 4, 4]], [[4, 33, 4]], 16), r"output_bits in 1\.\.32"),
        (ByLayer([[4, 4, 4]] * 2, [[4, 4, 4]], 16), "bits and input_bits of one shape"),
        (ByLayer([[4, 4, 4]], [[4, 4, 4]], 33), r"activation_bits in 1\.\.32, found 33"),
        (33, r"activation_bits in 1\.\.32, found 33"),
    ],
)
def test_bits_that_are_none(widths, words):
    with pytest.raises(UserError, match=words):
        Workload(LAYERS, [[4, 4, 4]], [[1.0, 1.0, 1.0]], activation_bits=widths)
