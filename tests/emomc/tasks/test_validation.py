"""Validation of a user's module: the metric is what Lightning gives, on batches that are loaded once."""

import pytest
import pytorch_lightning as pl
import torch

from emomc.common.errors import UserError
from emomc.tasks.config import TaskConfig
from emomc.tasks.held_batches import HeldBatches, tensors_of
from emomc.tasks.users_task import UsersTask
from emomc.tasks.validation import TaskValidation, name_in_test
from tests import users_tasks as modules

CPU = torch.device("cpu")


def task_of(module, monitor="val/mse", **settings):
    return UsersTask(module, modules.Points(), TaskConfig(module="x.py:X", monitor=monitor, mode="min", **settings))


def test_the_metric_is_that_of_lightning(tiny_trainer):
    task = task_of(modules.Regressor())
    (expected,) = tiny_trainer().validate(task.module, datamodule=modules.Points(), verbose=False)
    validation = TaskValidation(task, "validation", CPU)
    assert [validation.run(), validation.run()] == [expected["val/mse"]] * 2


def test_the_test_is_the_users_own(tiny_trainer):
    task = task_of(modules.Regressor())
    (expected,) = tiny_trainer().test(task.module, datamodule=modules.Points(), verbose=False)
    assert TaskValidation(task, "test", CPU).run() == expected["test/mse"]


def test_a_module_without_a_test_step_validates_on_the_test_data():
    class NoTest(modules.Regressor):
        test_step = pl.LightningModule.test_step

    own, other = task_of(NoTest()), task_of(modules.Regressor())
    other.module.load_state_dict(own.module.state_dict())
    assert TaskValidation(own, "test", CPU).run() == pytest.approx(TaskValidation(other, "test", CPU).run())


def test_the_data_are_set_up_and_loaded_once():
    task = task_of(modules.Regressor())
    validation = TaskValidation(task, "validation", CPU)
    for _ in range(3):
        validation.run()
    assert task.data.set_up_for == ["fit"]
    assert validation.batches.held
    assert (validation.batches.sizes, validation.batches.samples) == ([16] * 3, 48)


def test_steps_find_the_users_data_module():
    task = task_of(modules.NeedsItsData())
    task.data.scale = 7.0
    TaskValidation(task, "validation", CPU).run()
    assert task.module.scale == 7.0


def test_some_batches_alone_give_their_own_metric():
    validation = TaskValidation(task_of(modules.Regressor(), "val/close"), "validation", CPU)
    whole = validation.run()
    parts = [validation.run([position]) for position in range(3)]
    assert whole == pytest.approx(sum(parts) / 3)
    assert validation.run([1, 2]) == pytest.approx(sum(parts[1:]) / 2)


def test_a_network_in_the_place_of_the_modules_own_is_measured():
    task = task_of(modules.Regressor())
    validation, own = TaskValidation(task, "validation", CPU), task.network
    before = validation.run()
    with task.with_network(torch.nn.Linear(modules.FEATURES, 1)):
        assert validation.run() != before
    assert task.network is own
    assert validation.run() == before


def test_a_loader_that_is_too_large_is_read_again(monkeypatch):
    monkeypatch.setattr("emomc.tasks.held_batches.LIMIT_BYTES", 100)
    validation = TaskValidation(task_of(modules.Regressor()), "validation", CPU)
    assert validation.run() == validation.run()
    assert not validation.batches.held


def test_equal_data_have_equal_digests_and_others_have_others():
    loaders = [[torch.zeros(4, 2), torch.ones(3, 2)], [torch.zeros(4, 2), torch.ones(3, 2)], [torch.zeros(7, 2)]]
    held = [HeldBatches(loader) for loader in loaders]
    for one in held:
        list(one)
    assert held[0].digest() == held[1].digest() != held[2].digest()


def test_tensors_are_found_in_any_nesting():
    batch = {"a": torch.zeros(2), "b": [torch.ones(2), ("text", {"c": torch.zeros(3)})]}
    assert [len(tensor) for tensor in tensors_of(batch)] == [2, 2, 3]


def test_several_loaders_are_refused():
    task = task_of(modules.Regressor())
    task.data.setup("fit")
    loader = task.data.val_dataloader
    task.data.val_dataloader = lambda: [loader(), loader()]
    with pytest.raises(UserError, match="one loader from val_dataloader of Points, found 2 of them"):
        TaskValidation(task, "validation", CPU).run()


@pytest.mark.parametrize(
    ("monitor", "expected"),
    [("val/iou", "test/iou"), ("validation_loss", "test_loss"), ("valid_f1", "test_f1"), ("score", "score")],
)
def test_the_name_in_the_test_follows_from_that_in_validation(monitor, expected):
    assert name_in_test(monitor) == expected
