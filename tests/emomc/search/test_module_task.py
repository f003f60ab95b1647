"""A user's own task through both stages: levels, front, fine-tuning, files, and what early rejection may not change."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.cli import export
from emomc.cli import search as search_command
from emomc.common.errors import UserError, UserNote
from emomc.data.config import DataConfig
from emomc.fronts.front_file import read_front
from emomc.fronts.picks import pick_point
from emomc.library.library import Library
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare_task import prepare_task_library
from emomc.runtime.devices import Devices
from emomc.search.config import Finetuning, SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.tasks.config import TaskConfig
from emomc.tasks.users_task import UsersTask
from tests import users_tasks

FILE = users_tasks.__file__
CPU = Devices(accelerator="cpu", devices=1)
LEVELS = {"pre_train_epochs": 12, "pre_prune_lower_bound": 40, "pre_prune_step": 20, "pre_prune_epochs": 2}
CLOSE = {"monitor": "val/close", "mode": "max", "metric_range": (0.0, 1.0), "mean_of_samples": True}


def make_task(module=users_tasks.Regressor, data=users_tasks.Points, **settings) -> UsersTask:
    torch.manual_seed(0)
    usual = {"monitor": "val/mse", "mode": "min"}
    return UsersTask(module(), data(), TaskConfig(module=f"{FILE}:{module.__name__}", **{**usual, **settings}))


def prepare(folder, task, **settings) -> Library:
    config = PretrainingConfig(network=str(task.config.module), **{**LEVELS, **settings})
    data = DataConfig(dataset=f"{FILE}:{type(task.data).__name__}")
    return prepare_task_library(config, task, data, folder, devices=CPU)


def run(library, task, name, **settings):
    how = {key: settings.pop(key) for key in ("early_rejection", "finetuning") if key in settings}
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
    config = SearchConfig(**{"population_size": 5, "number_generations": 4, "rounding": "nearest", **settings})
    with warnings.catch_warnings():
        # That every candidate is evaluated on all samples, and that a task has no test data.
        warnings.simplefilter("ignore", UserNote)
        return run_search(library, config, [FrontWriter()], RunOptions(name=name, task=task, fabric=fabric, **how))


@pytest.fixture(scope="module")
def squared(tmp_path_factory):
    """A library whose metric is to be small, and of all samples together; and a searched front of it."""
    task = make_task()
    library = prepare(tmp_path_factory.mktemp("squared") / "run", task)
    return library, task, run(library, task, "front")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A searched front of a network with several inputs and outputs, whose levels are of all kinds of patterns."""
    task = make_task(users_tasks.Scene, users_tasks.Scenes)
    patterns = {"pattern": ("unstructured", "channel"), "pre_prune_lower_bound": 60}
    return run(prepare(tmp_path_factory.mktemp("scene") / "run", task, **patterns), task, "front")


@pytest.fixture(scope="module")
def close(tmp_path_factory):
    """A library whose metric is a mean of values per sample."""
    task = make_task(data=lambda: users_tasks.Points(batch_size=4), **CLOSE)
    return prepare(tmp_path_factory.mktemp("close") / "run", task), task


def test_levels_are_trained_by_the_modules_own_steps(squared):
    library, _, _ = squared
    metric, record = library.manifest.metric(), library.manifest.task
    assert (record.attribute, record.monitor, library.manifest.input_shape) == ("net", "val/mse", (6,))
    assert metric.low < metric.high == record.untrained
    assert [level.percent for level in library.manifest.levels] == [100, 80, 60, 40]
    for level in library.manifest.levels:
        assert level.validation_accuracy == pytest.approx(metric.quality(level.metric))
        assert sum(level.remaining.values()) <= level.percent / 100 * 228 + 3
    assert library.manifest.levels[2].metric < record.untrained


def test_the_front_names_the_metric_and_its_values(squared):
    _, _, search = squared
    front = read_front(search.files.front)
    assert front["metric"] == {**front["metric"], "name": "val/mse", "mode": "min"}
    values = [point["validation_metric"] for point in front["points"]]
    assert values == sorted(values)
    assert all(point["test_metric"] > 0 and point["validation_correct"] is None for point in front["points"])
    reason = pick_point("within:30", front).reason
    assert "val/mse" in reason
    assert "accuracy" not in reason
    assert "val/mse" in search.files.report.read_text()


def test_every_candidate_sees_all_where_bounds_are_not_known(squared):
    assert all(candidate.measured for candidate in squared[2].candidates)


def test_early_rejection_does_not_change_the_front(close, tmp_path):
    library, task = close
    # Searches of one library learn from each other's logs.
    shutil.copytree(library.path, tmp_path / "library")
    few = run(library, task, "few")
    all_ = run(Library.open(tmp_path / "library"), task, "all", early_rejection=False)
    points = [[(point.genotype, point.evaluation) for point in search.front] for search in (few, all_)]
    assert points[0] == points[1]
    assert few.rejected
    assert few.tally.images < all_.tally.images


def test_an_accuracy_of_torchmetrics_is_known_to_be_such_a_mean(tmp_path):
    task = make_task(users_tasks.LogsAccuracy, lambda: users_tasks.Points(4), monitor="val/near", mode="max")
    with pytest.warns(UserNote, match="searches stop candidates early"):
        library = prepare(tmp_path / "run", task, pre_prune_lower_bound=60)
    assert library.manifest.task.mean_of_samples
    search = run(library, task, "front", number_generations=8)
    assert search.rejected
    assert search.front[0].evaluation.metric <= 1


def test_a_metric_that_is_no_mean_of_samples_is_found_out(tmp_path):
    task = make_task(monitor="val/mse", mode="min", metric_range=(0.0, 1e-3), mean_of_samples=True)
    library = prepare(tmp_path / "run", task, pre_prune_lower_bound=80)
    with pytest.raises(UserError, match=r"val/mse within 0..0.001 for every sample"):
        run(library, task, "wrong")


def test_a_search_goes_on_from_its_log(squared):
    library, task, search = squared
    again = run(library, task, "again")
    assert again.tally.measured == 0
    assert [point.genotype for point in again.front] == [point.genotype for point in search.front]


def test_callbacks_of_a_module_are_for_its_dense_network_alone(tmp_path):
    task = make_task(users_tasks.WithCallbacks)
    with pytest.warns(UserNote, match="The callbacks that WithCallbacks configures are used when its dense network"):
        library = prepare(tmp_path / "run", task, pre_prune_lower_bound=80, pre_prune_epochs=3)
    logs = tmp_path / "run" / "logs"
    assert {stage: epochs_of(logs / stage) for stage in ("dense", "level_080")} == {"dense": 2, "level_080": 3}
    assert library.manifest.levels[1].metric > 0
    tuned = run(library, task, "front", finetuning=Finetuning(1)).finetuned
    assert tuned


def epochs_of(logs) -> int:
    """Return in how many epochs a training has validated."""
    return len(EventAccumulator(str(logs)).Reload().Scalars("val/mse"))


@pytest.mark.slow
def test_two_processes_find_the_front_of_one(squared, tmp_path):
    """Each is at another candidate: no Trainer may wait for the other process, and no metric may be of both."""
    library, _, _ = squared
    fronts = []
    for devices in ("1", "2"):
        folder = tmp_path / devices
        shutil.copytree(library.path, folder / "library")
        words = f"--library {folder / 'library'} --module {FILE}:Regressor --dataset {FILE}:Points --devices {devices}"
        further = "--accelerator cpu --population_size 6 --number_generations 4 --finetune_epochs 1 --quiet true"
        command = [str(Path(sys.executable).with_name("emomc-search")), *words.split(), *further.split()]
        ran = subprocess.run(command, timeout=300, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        (front,) = folder.glob("search/*/front.json")
        fronts.append(json.loads(front.read_text()))
    assert fronts[0]["points"] == fronts[1]["points"]


def test_points_are_fine_tuned_by_the_modules_own_loss(squared):
    library, task, _ = squared
    tuned = run(library, task, "tuned", finetuning=Finetuning(3)).finetuned
    assert any(point.kept and point.after.evaluation.metric < point.before.evaluation.metric for point in tuned)


def test_robust_levels_of_a_signal_over_time(tmp_path):
    task = make_task(users_tasks.Signal, users_tasks.Signals)
    library = prepare(tmp_path / "run", task, robust=True, pre_prune_lower_bound=80, pre_train_epochs=4)
    assert library.manifest.input_shape == (2, 24)
    search = run(library, task, "front", objectives=("accuracy", "size"))
    assert len(search.front) > 1
    assert search.front[0].test is None


FORMATS = pytest.mark.parametrize("format", ["emomc", "onnx", "torch", "c"])


@FORMATS
def test_an_exported_file_gives_the_metric_of_the_front(squared, tmp_path, capsys, format):
    exported_and_run(squared[2], tmp_path, capsys, format, ["Regressor", "Points"])


@FORMATS
def test_an_exported_file_of_several_inputs_and_outputs_gives_the_metric_of_the_front(scene, tmp_path, capsys, format):
    exported_and_run(scene, tmp_path, capsys, format, ["Scene", "Scenes"])


def exported_and_run(search, folder, capsys, format, names):
    module, data = (f"{FILE}:{name}" for name in names)
    point = ["--run", str(search.folder), "--pick", "max-accuracy", "--verify", "--module", module, "--dataset", data]
    assert export.main([*point, "--format", format, "--output", str(folder / f"net.{format}")]) == 0
    printed = capsys.readouterr().out
    best = json.loads(search.files.front.read_text())["points"][0]
    for split in ("validation", "test"):
        metric = f"{split} val/mse {best[f'{split}_metric']:.4g}"
        assert metric[:-1] in printed


def test_the_header_of_a_program_says_where_inputs_and_outputs_lie(scene, tmp_path):
    named = ["--module", f"{FILE}:Scene", "--dataset", f"{FILE}:Scenes", "--format", "c"]
    assert export.main(["--run", str(scene.folder), *named, "--output", str(tmp_path / "net.c")]) == 0
    text = " ".join((tmp_path / "net.c").read_text().split())
    assert "Inputs, one after another: input_0 (1 x 8 x 8), numbers (3)." in text
    assert "Outputs, one after another: map (1 x 8 x 8), heads_0 (2), heads_1 (1)." in text


def test_an_onnx_file_has_the_inputs_and_outputs_of_the_network(scene, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    named = ["--module", f"{FILE}:Scene", "--dataset", f"{FILE}:Scenes", "--format", "onnx"]
    assert export.main(["--run", str(scene.folder), *named, "--output", str(tmp_path / "net.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert {one.name: one.shape[1:] for one in session.get_inputs()} == {"images_0": [1, 8, 8], "numbers": [3]}
    found = {one.name: one.shape[1:] for one in session.get_outputs()}
    assert found == {"map": [1, 8, 8], "heads_0": [2], "heads_1": []}


def test_a_search_needs_the_module_that_made_the_library(squared, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text(Path(FILE).read_text() + "\n# another source\n")
    library, _, _ = squared
    arguments = ["--library", str(library.path), "--dataset", f"{FILE}:Points", "--accelerator", "cpu"]
    for options, message in (([], "expected --module"), (["--module", f"{other}:Regressor"], "another source")):
        assert search_command.main([*arguments, *options]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.1}, "no learning_rate for a LightningModule of yours"),
        ({"criterion": "sensitivity"}, "found sensitivity, which compares class scores"),
        ({"keep_front": True}, "no keep_front"),
    ],
)
def test_settings_without_an_effect_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "run", make_task(), **settings)
    assert not (tmp_path / "run").exists()
