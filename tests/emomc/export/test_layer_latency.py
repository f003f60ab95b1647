"""Layers alone in onnxruntime: the operation that the network has, in the forms that exported files have."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from emomc.common.errors import UserError
from emomc.export.layer_latency import Timing, least_ms, measure_layers, table_text
from emomc.export.onnx_layers import OnnxForm, empty_model, forms_of, layer_model
from emomc.hardware.description import load_target
from emomc.hardware.measured_costs import measured_costs
from emomc.hardware.workload import Workload
from emomc.networks.layers import LayerCall, LayerShape

QUICK = Timing(seconds=0.001, rounds=1, clock="processor")
LAYERS = {
    "a convolution": LayerShape("a", "conv", 3, 8, (LayerCall((9, 8), (5, 4)),), (3, 3), (2, 2)),
    "a depthwise one": LayerShape("b", "conv", 6, 6, (LayerCall((7, 7), (7, 7)),), (3, 3), groups=6),
    "a dilated one": LayerShape("c", "conv", 2, 4, (LayerCall((9, 9), (5, 5)),), (3, 3), dilation=(2, 2)),
    "of one dimension": LayerShape("d", "conv", 4, 4, (LayerCall((1, 16), (1, 14)),), (1, 3)),
    "without padding": LayerShape("e", "conv", 1, 6, (LayerCall((32, 32), (28, 28)),), (5, 5)),
    "a linear layer": LayerShape("f", "linear", 20, 10, (LayerCall((1, 3), (1, 3)),)),
    "a transposed one": LayerShape("g", "conv_transpose", 4, 2, (LayerCall((4, 4), (8, 8)),), (2, 2), (2, 2)),
    "a product": LayerShape("h", "product", 12, 15, (LayerCall((1, 4), (1, 4)),), groups=3),
}
CASES = [(name, form) for name, layer in LAYERS.items() for form in forms_of(layer.kind)]


def run(model: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    (found,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)
    return found


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_layer_makes_a_map_of_its_size(name: str, form: OnnxForm) -> None:
    layer = LAYERS[name]
    (call,) = layer.calls
    made = run(*layer_model(layer, call, form))
    assert made.size == layer.out_channels * call.output_pixels
    assert made.dtype == (np.uint8 if form.activation_bits == 8 else np.float32)
    assert len(np.unique(made)) > 1
    if layer.kind in ("conv", "conv_transpose"):
        assert made.shape == (1, layer.out_channels, *call.output_size)


@pytest.mark.parametrize("name", ["a convolution", "a linear layer"])
def test_all_forms_compute_about_the_same(name: str) -> None:
    layer = LAYERS[name]
    (call,) = layer.calls
    full = run(*layer_model(layer, call, OnnxForm(32, 32)))
    for form in forms_of(layer.kind):
        found = run(*layer_model(layer, call, form)).astype(np.float64)
        scores = (found - 128) / 128 if form.activation_bits == 8 else found
        # Integers stop at the ends of their range.
        np.testing.assert_allclose(scores, full.clip(-1, 127 / 128) if form.activation_bits == 8 else full, atol=0.08)


def test_a_product_has_no_weights_to_store() -> None:
    assert forms_of("product") == (OnnxForm(32, 32),)
    assert all(form.activation_bits == 32 for form in forms_of("conv_transpose"))


def test_what_was_measured_is_a_table_for_the_cost_model(tmp_path: Path) -> None:
    layers = [*LAYERS.values(), LayerShape("again", "linear", 20, 10, LAYERS["a linear layer"].calls)]
    told: list[object] = []
    calls = measure_layers(layers, QUICK, told.append)
    assert told == calls
    # Layers of one shape are measured once.
    assert len(calls) == len(CASES)
    assert all(call.ms > 0 for call in calls)
    (tmp_path / "cpu.csv").write_text(table_text(calls, QUICK))
    device = load_target(f"table:{tmp_path / 'cpu.csv'}")
    assert "1 thread, processor time" in device.technology
    for bits, inputs in itertools.product((4, 12, 32), (8, 32)):
        row = np.full((1, len(layers)), bits)
        found = measured_costs(Workload(layers, row, np.ones(row.shape), activation_bits=inputs), device)
        assert np.all(found.ms > 0)


def test_the_least_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([3.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr("emomc.export.layer_latency.run_ms", lambda *_: next(times))
    assert least_ms([empty_model(), empty_model()], Timing(rounds=2)) == [2.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threads": 0}, "1..1024 threads, found 0"),
        ({"seconds": 0.0}, "seconds for each layer, found 0"),
        ({"rounds": 0}, "1..1000 rounds, found 0"),
        ({"threads": 2, "clock": "processor"}, "one thread with the clock processor, found 2"),
    ],
)
def test_wrong_timings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as refused:
        Timing(**settings)  # type: ignore[arg-type]
    assert words in str(refused.value)
