"""Wrong arguments from Python: a UserError of one line, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from emomc import (
    Library,
    PreparationConfig,
    SearchConfig,
    load_compressed,
    load_hardware,
    prepare_library,
    quantize_symmetric,
    run_search,
    trace_layers,
)
from emomc.candidates.evaluation import Evaluation
from emomc.common.errors import UserError
from emomc.data.config import DataConfig
from emomc.fronts.front_file import read_front
from emomc.networks.layers import LayerCall, LayerShape
from emomc.networks.weights import load_weights
from emomc.runtime.devices import Devices
from emomc.search.config import Finetuning
from emomc.search.options import RunOptions

TINY = SearchConfig(population_size=4, number_generations=1)
CALL = LayerCall((8, 8), (6, 6))

CALLS = {
    "no library": (lambda library: Library.open("nowhere"), "manifest of a library .*nowhere"),
    "no packed file": (lambda library: load_compressed("nowhere"), "packed network at nowhere"),
    "no hardware": (lambda library: load_hardware("nowhere"), "hardware file, .*nowhere"),
    "no front": (lambda library: read_front(Path("nowhere")), r"front\.json at nowhere"),
    "no weights": (lambda library: load_weights(nn.Linear(2, 2), Path("nowhere")), "file of weights at nowhere"),
    "a name that leads elsewhere": (
        lambda library: run_search(library, TINY, run=RunOptions(name="a/b")),
        "name of a folder.*a/b",
    ),
    "an empty name": (lambda library: run_search(library, TINY, run=RunOptions(name="")), "name of a folder"),
    "no time": (lambda library: run_search(library, TINY, run=RunOptions(max_minutes=float("nan"))), "max_time.*nan"),
    "another network": (
        lambda library: run_search(library, TINY, run=RunOptions(network=nn.Linear(32, 2))),
        "network of the library",
    ),
    "a network for other images": (
        lambda library: run_search(library, TINY, run=RunOptions(network=nn.Conv2d(3, 3, 3))),
        "fails on one",
    ),
    "other levels": (
        lambda library: run_search(library, SearchConfig(lowest_level=90, highest_level=95)),
        "levels of 90..95 % .*100 %, 80 %, 50 %, 20 %",
    ),
    "a library that is none": (
        lambda library: prepare_library(PreparationConfig(network="x"), DataConfig(), "r"),
        "'x'",
    ),
    "a device that is none": (
        lambda library: prepare_library(PreparationConfig(), DataConfig(), "r", devices=Devices(accelerator="abacus")),
        "abacus",
    ),
    "half a batch": (
        lambda library: DataConfig(batch_size=0.5),
        r"whole number of 1 to 1048576 as batch_size, found 0\.5",
    ),
    "a dataset that is a number": (lambda library: DataConfig(dataset=5), "text without NUL as dataset, found 5"),
    "no epochs of fine-tuning": (lambda library: Finetuning(0), "at least 1 epoch of fine-tuning, .* found 0"),
    "13 bits": (lambda library: quantize_symmetric(torch.ones(3), 13), r"2\.\.12 bits, found 13"),
    "an unknown quantizer": (
        lambda library: quantize_symmetric(torch.ones(3), 4, method="x"),
        "absmax, mse, found 'x'",
    ),
    "no layer": (lambda library: trace_layers(nn.Flatten(), (1, 8, 8)), "convolution or linear layers, found none"),
    "a layer of no channels": (lambda library: LayerShape("a", "conv", 0, 3, (CALL,)), "in_channels of at least 1"),
    "more right than seen": (lambda library: Evaluation(5, 4, 10), r"correct <= seen <= images, found \(5, 4, 10\)"),
}


@pytest.mark.parametrize("case", CALLS)
def test_wrong_call(library, tmp_path, monkeypatch, case):
    call, words = CALLS[case]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words) as error:
        call(library)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
