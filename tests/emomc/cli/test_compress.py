"""All commands in one call."""

import dataclasses

import pytest
import torch

import emomc
from emomc.common.errors import UserError
from emomc.runtime.devices import Devices
from tests import users_tasks

FEW = emomc.CompressOptions(
    pretraining={"pre_train_epochs": 8, "pre_prune_step": 40, "pre_prune_epochs": 1},
    search={"population_size": 6, "number_generations": 2, "rounding": "nearest"},
    devices=Devices(accelerator="cpu", devices=1),
)


def compress(folder, **settings):
    torch.manual_seed(0)
    options = dataclasses.replace(FEW, folder=folder, **settings.pop("options", {}))
    return emomc.compress(users_tasks.Scene(), users_tasks.Scenes(), "val/mse", "min", options=options, **settings)


def test_one_call_ends_with_a_file_that_the_modules_own_test_has_run(tmp_path, recwarn):
    found = compress(tmp_path / "run", budget="size_kib=1.5")
    values = [point["validation_metric"] for point in found.points]
    assert values == sorted(values)
    picked = found.points[found.picked.position]
    assert picked["size_kib"] <= 1.5
    lines = found.export(tmp_path / "net.onnx", "onnx")
    assert lines[1].startswith(f"Read back: test val/mse {picked['test_metric']:.6g}"[:-1])
    assert (tmp_path / "net.onnx").stat().st_size > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": "rubbish"}, "expected a budget such as energy_mj=0.003"),
        ({"budget": "energy_mj=1", "hardware": "cortex_m4_cmsis_nn"}, "energ"),
        ({"hardware": "nothing"}, "expected a hardware file"),
        ({"options": {"pretraining": {"pre_train_epoch": 1}}}, "found 'pre_train_epoch'; pre_train_epochs is one"),
        ({"options": {"search": {"objectives": ("metric", "energy")}}}, "metric"),
        ({"options": {"task": {"metric_ranges": (0, 1)}}}, "found 'metric_ranges'; metric_range is one"),
        ({"options": {"trained": True}}, "expected a metric_range for a module that is trained already"),
    ],
)
def test_wrong_settings_are_refused_before_the_work(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        compress(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
