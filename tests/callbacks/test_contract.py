"""What every callback of the project promises, whichever it is."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import nn

import emomc.callbacks
from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.callbacks.trainer.module_pruning import PrunedNetwork
from emomc.callbacks.trainer.pareto_checkpoint import ParetoCheckpoint
from emomc.callbacks.trainer.pruning_schedule import PruningSchedule
from emomc.data.config import DataConfig
from emomc.library.data_sources import build_data
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.networks.build import build_network
from emomc.runtime.recipe import Recipe
from emomc.search.observer import SearchCallback


def discover():
    """Every callback that a module of the package defines."""
    found = []
    for module_info in pkgutil.walk_packages(emomc.callbacks.__path__, "emomc.callbacks."):
        module = importlib.import_module(module_info.name)
        found += [
            thing
            for thing in vars(module).values()
            if inspect.isclass(thing) and issubclass(thing, pl.Callback) and thing.__module__ == module.__name__
        ]
    return sorted(found, key=lambda kind: kind.__name__)


class Loader:
    """What EarlyRejection stops."""

    def stop(self):
        """Nothing to stop."""


CALLBACKS = discover()
ARGUMENTS = {
    "EarlyRejection": lambda: {"loader": Loader(), "affordable_misses": 5},
    "StopTraining": lambda: {"stopped": lambda: False},
    "EpochLines": lambda: {"stage": "dense"},
    "StageProgressBar": lambda: {"stage": "dense"},
    "EpochSeed": lambda: {},
    "ParetoCheckpoint": lambda: {"monitor": {"val/accuracy": "max", "val/loss": "min"}},
    "PacedCheckpoint": lambda: {"path": Path("last.ckpt")},
    "PruningSchedule": lambda: {"percents": [80, 50]},
    "ModulePruning": lambda: {"pruned": PrunedNetwork(nn.Identity(), (), {}), "percents": [80, 50]},
    "LearningRateFactor": lambda: {"factor": 0.4},
    "RandomBits": lambda: {"network": nn.Identity(), "layers": ()},
}
OBSERVERS = [kind for kind in CALLBACKS if issubclass(kind, SearchCallback)]


def make(kind):
    return kind(**ARGUMENTS.get(kind.__name__, dict)())


def test_all_are_found():
    names = {kind.__name__ for kind in CALLBACKS}
    assert {"FrontWriter", "TensorBoardFrontLogger", "RichFrontTable", "FrontLines"} <= names
    assert {"EarlyRejection", "EpochLines", "EpochSeed", "ParetoCheckpoint", "PruningSchedule"} <= names
    # One class a file.
    assert len({kind.__module__ for kind in CALLBACKS}) == len(CALLBACKS)


@pytest.mark.parametrize("kind", CALLBACKS)
class TestEvery:
    def test_can_be_made(self, kind):
        assert isinstance(make(kind), pl.Callback)

    def test_says_what_it_and_its_methods_do(self, kind):
        assert inspect.getdoc(kind)
        for name, method in vars(kind).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                assert method.__doc__, f"{kind.__name__}.{name}"

    def test_state_is_plain_data_that_comes_back(self, kind):
        state = make(kind).state_dict()
        assert json.loads(json.dumps(state)) == state
        other = make(kind)
        other.load_state_dict(state)
        assert other.state_dict() == state

    def test_two_share_nothing(self, kind):
        one, other = make(kind), make(kind)
        shared = [
            name
            for name, value in vars(one).items()
            if isinstance(value, (list, dict, set)) and value is vars(other).get(name)
        ]
        assert shared == []


def fingerprint(search):
    """Everything that decides how a search goes on."""
    return [
        search.generation,
        search.finished,
        repr(search.tally),
        repr(search.baseline_test),
        dict(search.bounds),
        repr(search.config),
        dict(search.uncompressed),
        [
            (c.index, c.generation, c.genotype, dict(c.costs), c.violation, repr(c.evaluation), repr(c.test))
            for c in search.candidates
        ],
    ]


@pytest.mark.parametrize("kind", OBSERVERS)
class TestObservers:
    def test_read_the_search_and_never_change_it(self, kind, finished, replay):
        before = fingerprint(finished)
        random = torch.random.get_rng_state()
        replay(finished, [make(kind)])
        assert fingerprint(finished) == before
        assert torch.equal(torch.random.get_rng_state(), random)

    def test_state_after_a_search_comes_back(self, kind, finished, replay):
        callback = make(kind)
        replay(finished, [callback])
        state = callback.state_dict()
        assert json.loads(json.dumps(state)) == state
        other = make(kind)
        other.load_state_dict(json.loads(json.dumps(state)))
        assert other.state_dict() == state

    def test_watch_a_second_search_afresh(self, kind, finished, replay):
        callback = make(kind)
        replay(finished, [callback])
        first = callback.state_dict()
        replay(finished, [callback])
        assert callback.state_dict() == first

    def test_bear_a_search_without_a_front(self, kind, finished, replay):
        finished.candidates = []
        replay(finished, [make(kind)])

    def test_run_under_a_trainer_too(self, kind, tiny_trainer):
        # They are callbacks of Lightning: nothing breaks where no search is.
        trainer = tiny_trainer(callbacks=[make(kind)], fast_dev_run=1)
        trainer.fit(classifier(), datamodule=build_data(DataConfig(batch_size=512)))


def test_observers_work_in_any_order(copy_of_library, search, capsys, monkeypatch):
    # A picture takes longer than the search; the tests of the figure look at it.
    monkeypatch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
    kinds = [kind for kind in OBSERVERS if kind.__name__ != "RichFrontTable"]
    names = ("front.csv", "candidates.csv", "front.json")
    found = set()
    for number, order in enumerate((kinds, kinds[::-1])):
        result = search(copy_of_library(str(number)), [make(kind) for kind in order], number_generations=2)
        found.add(tuple((result.folder / name).read_bytes() for name in names))
    assert len(found) == 1


def classifier():
    torch.manual_seed(0)
    network = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    masks = {
        name.removesuffix(".weight"): torch.ones_like(value, dtype=torch.bool)
        for name, value in network.named_parameters()
        if value.ndim > 1
    }
    return PrePruningClassifier(network, 10, Recipe(0.01), masks)


def test_training_callbacks_work_in_any_order(tiny_trainer, tmp_path, capsys):
    results = []
    for number, order in enumerate(itertools.islice(itertools.permutations(range(4)), 0, None, 8)):
        callbacks = [
            EpochSeed(0, "level"),
            EpochLines("level"),
            PruningSchedule([80, 50]),
            ParetoCheckpoint({"val/accuracy": "max", "density": "min"}, dirpath=tmp_path / str(number)),
        ]
        module = classifier()
        trainer = tiny_trainer(callbacks=[callbacks[index] for index in order], max_epochs=2, enable_checkpointing=True)
        trainer.fit(module, datamodule=build_data(DataConfig(batch_size=256)))
        results.append((module.density, {key: value.clone() for key, value in module.state_dict().items()}))
    density, first = results[0]
    assert density == pytest.approx(0.5, abs=1e-3)
    for other_density, other in results[1:]:
        assert other_density == density
        assert all(torch.equal(other[key], value) for key, value in first.items())
