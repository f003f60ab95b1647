"""ONNX files that take pixels give what those of normalised images give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.data.config import DataConfig
from emomc.data.datasets import load_dataset
from emomc.library.data_sources import build_data
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")


@pytest.fixture
def searched(library):
    def search(activation_bits: int):
        config = SearchConfig(
            population_size=4, number_generations=1, activation_bits=activation_bits, max_bits=4, rounding="nearest"
        )
        run_search(library, config, [FrontWriter()], run=RunOptions(name="s"))
        return library.path.parent

    return search


@pytest.mark.parametrize(
    ("activation_bits", "given", "layout"),
    [pytest.param(16, "true", "nchw", marks=pytest.mark.slow), (8, "nhwc", "nhwc")],
)
def test_pixels_go_in(run, searched, activation_bits, given, layout):
    folder = searched(activation_bits)
    export = ("export", "--run", folder, "--format", "onnx", "--pick", "max-accuracy")
    ran = run(*export, "--output", "pixels.onnx", "--preprocess", given, "--verify")
    assert ran.status == 0, ran
    assert "test accuracy" in ran.out
    assert run(*export, "--output", "plain.onnx").status == 0

    pixels, _ = load_dataset(DataConfig()).test[torch.arange(40)]
    images = build_data(DataConfig()).normalise(pixels)
    plain = onnxruntime.InferenceSession("plain.onnx")
    taking = onnxruntime.InferenceSession("pixels.onnx")
    (value,) = taking.get_inputs()
    assert (value.name, value.type) == ("pixels", "tensor(uint8)")
    assert value.shape[1:] == ([1, 32, 32] if layout == "nchw" else [32, 32, 1])
    array = pixels.numpy() if layout == "nchw" else np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
    (expected,) = plain.run(None, {"images": images.numpy()})
    (found,) = taking.run(None, {"pixels": array})
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
