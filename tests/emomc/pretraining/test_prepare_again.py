"""Stage I over a folder that has something: interrupted it gives the same library, what stands is not made again."""

from __future__ import annotations

import json
import shutil

import pytest
import pytorch_lightning as pl

from emomc.common.errors import UserError, UserNote
from emomc.library.manifest import MANIFEST


def level_files(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "library").glob("*.safetensors"))}


class Stop(pl.Callback):
    """Ends a run as a killed process would, after some epochs of one stage."""

    def __init__(self, epochs):
        self.left = epochs

    def on_train_epoch_start(self, trainer, pl_module):
        if not self.left:
            raise RuntimeError("killed")
        self.left -= 1


def stop_at(wanted, epochs):
    return lambda stage: [Stop(epochs)] if stage == wanted else []


class TestAgain:
    def test_what_stands_is_not_trained_again(self, shared_run, prepare, tmp_path, counter):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        before = level_files(folder)
        library = prepare(folder, callbacks=counter)
        assert counter.epochs == []
        assert library.levels == (100, 80, 50, 20)
        assert level_files(folder) == before

    # Those that are interrupted make them, too.
    @pytest.mark.slow
    def test_the_same_settings_make_the_same_bytes(self, shared_run, prepare, tmp_path):
        prepare(tmp_path)
        assert level_files(tmp_path) == level_files(shared_run)
        assert (tmp_path / "library" / MANIFEST).read_bytes() == (shared_run / "library" / MANIFEST).read_bytes()

    @pytest.mark.parametrize(
        ("stage", "epochs"), [pytest.param("dense", 0, marks=pytest.mark.slow), ("dense", 1), ("level 050", 0)]
    )
    def test_interrupted_and_run_again_it_makes_the_same_bytes(
        self, shared_run, prepare, tmp_path, stage, epochs, counter
    ):
        with pytest.raises(RuntimeError, match="killed"):
            prepare(tmp_path, callbacks=stop_at(stage, epochs))
        prepare(tmp_path, callbacks=counter)
        assert level_files(tmp_path) == level_files(shared_run)
        assert (tmp_path / "library" / MANIFEST).read_bytes() == (shared_run / "library" / MANIFEST).read_bytes()
        assert counter.epochs[0] == (stage, epochs)

    @pytest.mark.parametrize(
        "further",
        [
            {},
            pytest.param({"pre_prune_schedule": "restart"}, marks=pytest.mark.slow),
            pytest.param({"criterion": "sensitivity", "pre_prune_schedule": "restart"}, marks=pytest.mark.slow),
            {"criterion": "sensitivity", "robust": True},
        ],
    )
    def test_a_level_interrupted_between_its_epochs_goes_on_from_there(self, prepare, tmp_path, further, counter):
        settings = {"pre_train_epochs": 1, "pre_prune_epochs": 2, "pre_prune_upper_bound": 50, "pre_prune_step": 50}
        settings |= further
        prepare(tmp_path / "whole", **settings)
        with pytest.raises(RuntimeError, match="killed"):
            prepare(tmp_path / "broken", callbacks=stop_at("level 050", 1), **settings)
        prepare(tmp_path / "broken", callbacks=counter, **settings)
        assert counter.epochs == [("level 050", 1)]
        assert level_files(tmp_path / "broken") == level_files(tmp_path / "whole")

    def test_levels_can_be_added(self, shared_run, prepare, tmp_path, counter):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        before = level_files(folder)
        library = prepare(folder, callbacks=counter, pre_prune_step=15)
        assert library.levels == (100, 80, 65, 50, 35, 20)
        assert [stage for stage, _ in counter.epochs] == ["level 065", "level 035"]
        after = level_files(folder)
        assert {name: after[name] for name in before} == before

    def test_a_library_made_before_a_setting_existed_is_that_of_its_default(
        self, shared_run, prepare, tmp_path, counter
    ):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        manifest = json.loads((folder / "library" / MANIFEST).read_text())
        for name in ("robust", "distillation", "pruning_cost", "weights_strict"):
            del manifest["settings"][name]
        (folder / "library" / MANIFEST).write_text(json.dumps(manifest))
        prepare(folder, callbacks=counter, pre_prune_step=20)
        assert [stage for stage, _ in counter.epochs] == ["level 060", "level 040"]

    def test_other_data_folders_and_batches_of_evaluation(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        prepare(folder, data_dir=str(tmp_path / "elsewhere"))
        with pytest.warns(UserNote, match=r"batches of 32 images from now on, not of 64"):
            library = prepare(folder, evaluation_batch_size=32)
        assert library.manifest.evaluation_batch_size == 32
        assert level_files(folder) == level_files(shared_run)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"learning_rate": 0.1}, "made with learning_rate = 0.1, found 0.005: take another --output"),
            ({"seed": 3}, "made with seed = 3, found 0"),
            ({"criterion": "lamp"}, "made with criterion = 'lamp', found 'layerwise'"),
            ({"pre_prune_epochs": 7}, "made with pre_prune_epochs = 7, found 1"),
            ({"robust": True}, "made with robust = True, found False"),
            ({"exclude_layers": ["conv1"]}, r"made with exclude\S+ = .'conv1'"),
            ({"batch_size": 32}, "made with batch_size = 32, found 64"),
            ({"network": "mobilenet"}, "made with network = 'mobilenet', found 'lenet5'"),
        ],
    )
    def test_changed_settings_are_refused_by_name(self, shared_run, prepare, tmp_path, settings, words):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        before = level_files(folder)
        with pytest.raises(UserError, match=words) as error:
            prepare(folder, **settings)
        assert "\n" not in str(error.value)
        assert level_files(folder) == before

    def test_overwrite_begins_anew(self, shared_run, prepare, tmp_path, counter):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        library = prepare(folder, callbacks=counter, overwrite=True, seed=3, pre_train_epochs=1, pre_prune_step=60)
        assert library.levels == (100, 80, 20)
        assert [stage for stage, _ in counter.epochs] == ["dense", "level 080", "level 020"]
        assert sorted(level_files(folder)) == [f"level_{level}.safetensors" for level in ("020", "080", "100")]

    def test_a_missing_level_file_is_named(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        (folder / "library" / "level_020.safetensors").unlink()
        with pytest.raises(UserError, match="expected the weights of level 20 %"):
            prepare(folder, pre_prune_lower_bound=5, pre_prune_step=15)
