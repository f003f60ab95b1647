"""Equal runs give equal bytes, and torch's settings are restored."""

from __future__ import annotations

import os

import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.common.errors import UserError
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.determinism import deterministic_algorithms
from emomc.runtime.devices import Devices
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

TINY = PretrainingConfig(pre_train_epochs=1, pre_prune_epochs=1, pre_prune_step=60, evaluation_batch_size=64)


def prepared(folder, deterministic):
    devices = Devices(accelerator="cpu", devices=1, deterministic=deterministic)
    return prepare_library(TINY, DataConfig(batch_size=64), folder, devices=devices)


def searched(library, name, deterministic):
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
    config = SearchConfig(population_size=4, number_generations=2)
    search = run_search(
        library, config, [FrontWriter()], run=RunOptions(name=name, fabric=fabric, deterministic=deterministic)
    )
    return search


@pytest.mark.slow
def test_on_a_cpu_the_flag_changes_no_byte(tmp_path):
    plain, flagged = (prepared(tmp_path / str(flag), flag) for flag in (False, True))
    for file in plain.path.iterdir():
        assert file.read_bytes() == (flagged.path / file.name).read_bytes(), file.name
    one, other = (searched(plain, str(flag), flag) for flag in (False, True))
    for name in ("front.csv", "candidates.csv", "report.html", "front.png"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name
    # Evaluations made without the flag are not reused by a search with it.
    assert other.tally.reused == 0


def test_is_put_back():
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    with deterministic_algorithms():
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_that_cannot_be_deterministic_is_named():
    torch.use_deterministic_algorithms(True)
    try:
        with (
            pytest.raises(UserError, match=r"put_ does not have .*Leave out --deterministic"),
            deterministic_algorithms(),
        ):
            torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]), accumulate=False)
    finally:
        torch.use_deterministic_algorithms(False)
