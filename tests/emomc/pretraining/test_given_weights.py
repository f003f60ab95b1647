"""What is said of a user's trained weights before anything is pruned."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

from emomc.common.errors import UserNote
from emomc.data.config import DataConfig
from emomc.library.manifest import DENSE
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices


@pytest.fixture
def made(shared_library, tmp_path):
    """Make a library from trained weights; return the lines that were said: ``made(**settings of the data)``."""
    weights = tmp_path / "weights.pt"
    torch.save(shared_library.load_state(DENSE), weights)

    def make(**data):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prepare_library(
                PretrainingConfig(
                    weights=str(weights), pre_prune_upper_bound=50, pre_prune_lower_bound=50, pre_prune_epochs=0
                ),
                DataConfig(**data),
                tmp_path / "run",
                devices=Devices(accelerator="cpu", devices=1),
                overwrite=True,
            )
        return [str(note.message) for note in caught if issubclass(note.category, UserNote)]

    return make


def test_their_accuracy_and_what_their_images_are(made, shared_library):
    accuracy = 100 * shared_library.record(DENSE).validation_accuracy
    assert made() == [
        f"The given weights have {accuracy:.2f} % validation accuracy on images of 1x32x32, mean 0.3052, "
        "deviation 0.3236."
    ]


def test_other_statistics_are_tried_if_they_are_hardly_better_than_guessing(made):
    _, text = made(mean=(-40.0,), std=(0.5,))
    assert "the preprocessing or the order of the classes may not be theirs" in text
    assert "where guessing has 10.00" in text
    tried = dict(re.findall(r"(--mean \S+ --std \S+) ([\d.]+) %", text))
    assert list(tried)[:1] == [max(tried, key=lambda way: float(tried[way]))]
    assert float(tried["--mean 0.5 --std 0.5"]) > 50
    # An option as it is named gives what it promises.
    mean, std = (float(value) for value in re.findall(r"[\d.]+", next(iter(tried))))
    (line,) = made(mean=(mean,), std=(std,))
    assert float(re.findall(r"([\d.]+) %", line)[0]) > 50


def test_nothing_is_said_without_them(tmp_path, recwarn):
    prepare_library(
        PretrainingConfig(pre_train_epochs=1, pre_prune_upper_bound=100, pre_prune_lower_bound=100),
        DataConfig(),
        tmp_path / "run",
        devices=Devices(accelerator="cpu", devices=1),
    )
    assert not [note for note in recwarn if issubclass(note.category, UserNote)]
