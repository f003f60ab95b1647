"""What is said of a user's trained weights before anything is pruned."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

from emomc.common.errors import UserNote
from emomc.data.config import DataConfig
from emomc.data.splits import load_split
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.library.network_sources import library_network
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


def test_weights_with_another_order_of_classes(shared_library, tmp_path, made):
    """What a network with shuffled outputs knows is all there once a file says their order."""
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    state = shared_library.load_state(DENSE)
    shuffled = {key: value[order] for key, value in state.items() if len(value) == len(order)}
    assert len(shuffled) == 2
    torch.save({**state, **shuffled}, tmp_path / "weights.pt")
    (tmp_path / "classes.txt").write_text("\n".join(map(str, order)))
    assert float(re.findall(r"([\d.]+) %", made()[0])[0]) < 30
    (line,) = made(class_map=str(tmp_path / "classes.txt"))
    # Which images are held out depends on the numbers of classes.
    accuracy = float(re.findall(r"([\d.]+) %", line)[0])
    assert abs(accuracy - 100 * shared_library.record(DENSE).validation_accuracy) < 5
    library = Library.open(tmp_path / "run" / "library")
    assert library.manifest.class_names == tuple(map(str, order))
    # A search needs the file no longer.
    (tmp_path / "classes.txt").unlink()
    network = library_network(library)
    network.load_state_dict(library.load_state(DENSE))
    images, labels = load_split(library_data(library), "validation")
    with torch.no_grad():
        correct = (network.eval()(images).argmax(1) == labels).float().mean()
    assert 100 * float(correct) == pytest.approx(accuracy, abs=0.01)


def test_nothing_is_said_without_them(tmp_path, recwarn):
    prepare_library(
        PretrainingConfig(pre_train_epochs=1, pre_prune_upper_bound=100, pre_prune_lower_bound=100),
        DataConfig(),
        tmp_path / "run",
        devices=Devices(accelerator="cpu", devices=1),
    )
    assert not [note for note in recwarn if issubclass(note.category, UserNote)]
