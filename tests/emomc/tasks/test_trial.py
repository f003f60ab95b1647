"""What is refused before anything is trained, in one line; and what is right as it is."""

import dataclasses
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torchmetrics import MeanSquaredError
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, MulticlassAccuracy, MultilabelAccuracy

from emomc.common.errors import UserError, UserFact
from emomc.networks.graph import trace_network
from emomc.networks.interface import NetworkInterface, Part
from emomc.tasks.config import TaskConfig
from emomc.tasks.trial import check_exported, training_inputs, try_validation
from emomc.tasks.users_task import UsersTask
from tests import users_tasks as modules

MSE = TaskConfig(module="x.py:X", monitor="val/mse", mode="min")


def task_of(module: pl.LightningModule, data: pl.LightningDataModule | None = None, **settings) -> UsersTask:
    return UsersTask(module, data or modules.Points(), dataclasses.replace(MSE, **settings))


def tried(task: UsersTask) -> None:
    shape = tuple(try_validation(task).shape[1:])
    training_inputs(task, 0)
    check_exported(task, trace_network(task.network, shape, task.interface))


@pytest.mark.parametrize("module", [modules.Regressor, modules.ManualOptimization, modules.NeedsItsData])
def test_a_module_as_users_write_it_is_right(module):
    tried(task_of(module()))


def test_inputs_may_lie_over_time_and_in_mappings():
    task = task_of(modules.Signal(), modules.Signals())
    tried(task)
    assert task.attribute == "body"
    assert [tuple(batch.shape) for batch in training_inputs(task, 0, samples=20)] == [(16, 2, 24), (4, 2, 24)]


def test_a_network_may_have_several_inputs_and_outputs():
    task = task_of(modules.Scene(), modules.Scenes())
    tried(task)
    assert task.interface == NetworkInterface(
        (Part((0,), (1, 8, 8)), Part(("numbers",), (3,))),
        (Part(("map",), (1, 8, 8)), Part(("heads", 0), (2,)), Part(("heads", 1), ())),
    )
    assert [tuple(batch.shape) for batch in training_inputs(task, 0, samples=20)] == [(16, 67), (4, 67)]


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (modules.Regressor, {"monitor": "val/nothing"}, r"to log 'val/nothing' in its validation, found that it logs"),
        (modules.LogsInTrainingAlone, {"monitor": "val/other"}, "found that it logs it in training alone"),
        (modules.TwoOptimizers, {}, "to train on its first batches, found: Training with multiple optimizers"),
        (modules.CallsParts, {}, "let its steps call the network as a whole"),
        (modules.TakesWholeNumbers, {}, r"to be called with float tensors of samples, \(n, ...\), found torch.int64"),
        (modules.Breaks, {}, "validation_step of Breaks to run on its batches, found: the wheels came off"),
    ],
)
def test_a_module_that_cannot_be_compressed_is_refused(module, settings, message):
    with pytest.raises(UserError, match=message) as refused:
        tried(task_of(module(), **settings))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (modules.TwoNetworks, "found them in net, second: put them into one, or name it with --network_attribute"),
        (modules.TrainsMore, "found temperature elsewhere"),
        (modules.WithoutLayers, "in one attribute that is a torch.nn.Module, found none"),
    ],
)
def test_the_network_must_be_one_attribute(module, message):
    with pytest.raises(UserError, match=message):
        task_of(module())


def test_an_attribute_that_is_none_is_refused():
    with pytest.raises(UserError, match="an attribute of Regressor that is a network, found no 'nets'"):
        task_of(modules.Regressor(), network_attribute="nets")


@pytest.mark.parametrize(
    ("metric", "known"),
    [
        (BinaryAccuracy(), True),
        (MulticlassAccuracy(3, average="micro"), True),
        (MultilabelAccuracy(3, average="micro"), True),
        (MulticlassAccuracy(3, average="macro"), False),
        (MulticlassAccuracy(3, average="micro", ignore_index=0), False),
        (BinaryAccuracy(multidim_average="samplewise"), False),
        (BinaryF1Score(), False),
        (MeanSquaredError(), False),
        (torch.tensor(0.5), False),
    ],
)
def test_shares_of_samples_are_known_by_their_class(metric, known):
    task = task_of(modules.Regressor())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        task.learn(None, metric)
    assert (task.config.mean_of_samples, task.config.metric_range) == ((True, (0.0, 1.0)) if known else (None, None))
    assert len(told) == known


@pytest.mark.parametrize("settings", [{"mean_of_samples": False}, {"metric_range": (0.5, 1.0)}])
def test_what_the_user_says_of_a_metric_holds(settings):
    task = task_of(modules.Regressor(), **settings)
    task.learn(None, BinaryAccuracy())
    assert task.config == dataclasses.replace(MSE, **settings)


def test_the_metric_that_is_logged_is_found():
    task = task_of(modules.LogsAccuracy(), monitor="val/near", mode="max")
    with pytest.warns(UserFact, match="val/near is a mean over samples within 0 to 1, BinaryAccuracy of torchmetrics"):
        tried(task)


def test_a_trial_changes_neither_the_module_nor_the_random_numbers():
    torch.manual_seed(3)
    task = task_of(modules.Regressor())
    before, random = {name: one.clone() for name, one in task.module.state_dict().items()}, torch.get_rng_state()
    tried(task)
    assert all(torch.equal(one, before[name]) for name, one in task.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": None}, "--monitor with the name of a validation metric"),
        ({"mode": None}, "--mode max or min"),
        ({"metric_range": (1.0, 0.0)}, "a metric_range of a lower and a higher number, found 1 and 0"),
        ({"mean_of_samples": True}, "--metric_range with --mean_of_samples"),
        ({"learning_rate_factor": 0.0}, "a learning_rate_factor above 0"),
        ({"module": None}, "expected --module with --monitor"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(MSE, **settings)
