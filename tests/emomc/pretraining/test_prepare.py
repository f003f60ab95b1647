"""Stage I: the levels have their declared density, and an interrupted run gives the same library."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from emomc.common.errors import UserError, UserFact, UserNote
from emomc.common.files import shared_lock
from emomc.common.pareto import non_dominated
from emomc.common.run_folder import RunFolder
from emomc.compression.pruning import remaining_count
from emomc.compression.sensitivity import weight_prices
from emomc.data.config import DataConfig
from emomc.library.data_sources import build_data
from emomc.library.manifest import DENSE, MANIFEST
from emomc.networks.build import build_network
from emomc.pretraining.config import PretrainingConfig


def level_files(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "library").glob("*.safetensors"))}


@pytest.fixture(autouse=True)
def few_images_for_sensitivity(monkeypatch):
    monkeypatch.setattr("emomc.pretraining.measured_images.MOST", 64)


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


class Counter(pl.Callback):
    """Counts the epochs that each stage trains."""

    def __init__(self):
        self.epochs = []
        self.stage = ""

    def __call__(self, stage):
        self.stage = stage
        return [self]

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append((self.stage, trainer.current_epoch))


class TestLevels:
    def test_are_those_asked_for_with_exact_densities(self, shared_library):
        assert shared_library.percents == (100, 80, 50, 20)
        for record in shared_library.manifest.levels:
            for layer in shared_library.manifest.layers:
                assert record.remaining[layer.name] == (layer.weights * record.percent + 50) // 100

    def test_removed_weights_are_zero_and_masks_are_nested(self, shared_library):
        higher = None
        for percent in shared_library.percents:
            state = shared_library.load_state(percent)
            masks = shared_library.load_masks(percent, state)
            for name, mask in masks.items():
                assert int(mask.sum()) == shared_library.record(percent).remaining[name]
                assert not state[f"{name}.weight"][~mask].any()
                if higher is not None:
                    assert bool((mask <= higher[name]).all())
            higher = masks

    def test_are_tuned_and_not_only_cut(self, shared_library):
        dense = shared_library.load_state(DENSE)
        state = shared_library.load_state(20)
        masks = shared_library.load_masks(20, state)
        kept = masks["conv1"]
        assert not torch.equal(state["conv1.weight"][kept], dense["conv1.weight"][kept])
        assert shared_library.dense_accuracy > 0.85
        assert shared_library.record(20).validation_accuracy > 0.7

    def test_manifest_says_how_it_was_made(self, shared_library):
        manifest = shared_library.manifest
        assert manifest.network == "lenet5"
        assert manifest.input_shape == (1, 32, 32)
        assert manifest.num_classes == 10
        assert manifest.evaluation_batch_size == 64
        assert [layer.name for layer in manifest.layers][:2] == ["conv1", "conv2"]
        assert manifest.settings["pre_train_epochs"] == 2
        assert [record.epochs for record in manifest.levels] == [2, 1, 1, 1]

    def test_no_checkpoint_is_left_and_every_stage_is_logged(self, shared_run):
        assert not list((shared_run / "checkpoints").rglob("*.ckpt"))
        logs = {path.parent.name for path in (shared_run / "logs").rglob("events.out.tfevents.*")}
        assert logs == {"dense", "level_080", "level_050", "level_020", "library"}

    def test_tensorboard_shows_each_stage_and_accuracy_over_density(self, shared_run, shared_library):
        def read(stage):
            return EventAccumulator(str(shared_run / "logs" / stage)).Reload()

        for percent in (80, 50, 20):
            events = read(f"level_{percent:03d}")
            assert {"train/loss", "val/accuracy", "density"} <= set(events.Tags()["scalars"])
            assert any(tag.startswith("lr-") for tag in events.Tags()["scalars"])
            assert events.Scalars("density")[-1].value == pytest.approx(percent / 100, abs=1e-3)
        whole = read("library")
        assert whole.Tags()["images"]
        scalars = {scalar.step: scalar.value for scalar in whole.Scalars("library/validation_accuracy")}
        assert scalars == pytest.approx({r.percent: r.validation_accuracy for r in shared_library.manifest.levels})

    def test_keep_front_keeps_checkpoints_of_accuracy_and_density_over_all_levels(self, prepare, tmp_path):
        settings = {"keep_front": True, "pre_train_epochs": 1, "pre_prune_step": 30}
        prepare(tmp_path, pre_prune_lower_bound=50, **settings)
        # A later run restores the front of the earlier one.
        prepare(tmp_path, pre_prune_lower_bound=20, **settings)
        kept = json.loads((tmp_path / "checkpoints" / "front.json").read_text())["kept"]
        assert sorted(Path(one["path"]) for one in kept) == sorted((tmp_path / "checkpoints" / "front").iterdir())
        points = [(-one["metrics"]["val/accuracy"], one["metrics"]["density"]) for one in kept]
        assert non_dominated(points).all()
        # The lowest level is always on the front: no other is as sparse.
        assert min(density for _, density in points) == pytest.approx(0.2, abs=1e-3)

    @pytest.mark.parametrize("criterion", ["global", "lamp", "macs"])
    def test_of_the_other_criteria_keep_the_share_of_all_weights(self, prepare, tmp_path, criterion):
        library = prepare(tmp_path, criterion=criterion, pre_prune_lower_bound=50, pre_train_epochs=1)
        for percent in (80, 50):
            kept = library.record(percent).remaining
            total = sum(layer.weights for layer in library.manifest.layers)
            assert sum(kept.values()) == (total * percent + 50) // 100
            shares = [kept[layer.name] / layer.weights for layer in library.manifest.layers]
            assert max(shares) - min(shares) > 0.05
            assert min(shares) >= 0.2 * percent / 100 - 0.01

    @pytest.mark.parametrize("cost", ["both", "macs", "weights"])
    def test_by_sensitivity_keep_the_share_of_the_cost(self, prepare, tmp_path, cost):
        settings = {"criterion": "sensitivity", "pruning_cost": cost, "pre_train_epochs": 1}
        library = prepare(tmp_path, pre_prune_lower_bound=50, **settings)
        layers = library.manifest.layers
        sizes = {layer.name: layer.weights for layer in layers}
        prices = weight_prices(sizes, {layer.name: layer.macs for layer in layers}, cost)
        for percent in (80, 50):
            kept = library.record(percent).remaining
            # Each layer rounds to whole weights.
            assert sum(prices[name] * count for name, count in kept.items()) == pytest.approx(
                percent / 100, abs=sum(prices.values()) / 2
            )
            shares = [kept[name] / size for name, size in sizes.items()]
            assert max(shares) - min(shares) > 0.05

    def test_restart_prunes_each_from_the_dense_network_in_equal_ratios(self, prepare, tmp_path):
        densities = {}

        class Densities(pl.Callback):
            def __init__(self, stage):
                self.stage = stage

            def on_train_epoch_end(self, trainer, pl_module):
                densities.setdefault(self.stage, []).append(pl_module.density if self.stage != "dense" else 1.0)

        settings = {"pre_train_epochs": 1, "pre_prune_epochs": 3, "pre_prune_schedule": "restart"}
        library = prepare(
            tmp_path / "both", callbacks=lambda stage: [Densities(stage)], pre_prune_upper_bound=50, **settings
        )
        total = sum(layer.weights for layer in library.manifest.layers)
        for percent in (50, 20):
            for step, density in enumerate(densities[f"level {percent:03d}"], 1):
                # Each layer rounds separately, by at most half a weight.
                assert density == pytest.approx((percent / 100) ** (step / 3), abs=len(library.manifest.layers) / total)
        for name, count in library.record(20).remaining.items():
            weights = next(layer.weights for layer in library.manifest.layers if layer.name == name)
            assert count == remaining_count(weights, 20)
        # From the dense network, not from level 50: without level 50 it is the same.
        alone = prepare(tmp_path / "alone", pre_prune_upper_bound=20, **settings)
        assert alone.percents == (100, 20)
        assert alone.record(20).sha256 == library.record(20).sha256

    def test_without_fine_tuning_are_the_dense_network_cut(self, prepare, tmp_path):
        library = prepare(tmp_path, pre_train_epochs=1, pre_prune_epochs=0)
        dense = library.load_state(DENSE)
        state = library.load_state(20)
        for name, mask in library.load_masks(20, state).items():
            assert torch.equal(state[f"{name}.weight"], dense[f"{name}.weight"] * mask)
            assert int(mask.sum()) == library.record(20).remaining[name]

    def test_excluded_layers_stay_whole(self, prepare, tmp_path):
        library = prepare(tmp_path, exclude_layers=["linear*"], pre_prune_lower_bound=80, pre_train_epochs=1)
        assert [layer.name for layer in library.manifest.compressed_layers] == ["conv1", "conv2", "conv3"]
        assert set(library.record(80).remaining) == {"conv1", "conv2", "conv3"}
        state = library.load_state(80)
        assert library.manifest.excluded_layers == ("linear1", "linear2")
        assert all(state[f"{name}.weight"].all() for name in library.manifest.excluded_layers)


class TestAgain:
    def test_what_stands_is_not_trained_again(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        before = level_files(folder)
        counter = Counter()
        library = prepare(folder, callbacks=counter)
        assert counter.epochs == []
        assert library.percents == (100, 80, 50, 20)
        assert level_files(folder) == before

    def test_the_same_settings_make_the_same_bytes(self, shared_run, prepare, tmp_path):
        prepare(tmp_path)
        assert level_files(tmp_path) == level_files(shared_run)
        assert (tmp_path / "library" / MANIFEST).read_bytes() == (shared_run / "library" / MANIFEST).read_bytes()

    @pytest.mark.parametrize(("stage", "epochs"), [("dense", 0), ("dense", 1), ("level 050", 0)])
    def test_interrupted_and_run_again_it_makes_the_same_bytes(self, shared_run, prepare, tmp_path, stage, epochs):
        with pytest.raises(RuntimeError, match="killed"):
            prepare(tmp_path, callbacks=stop_at(stage, epochs))
        counter = Counter()
        prepare(tmp_path, callbacks=counter)
        assert level_files(tmp_path) == level_files(shared_run)
        assert (tmp_path / "library" / MANIFEST).read_bytes() == (shared_run / "library" / MANIFEST).read_bytes()
        assert counter.epochs[0] == (stage, epochs)

    @pytest.mark.parametrize(
        "further",
        [
            {},
            {"pre_prune_schedule": "restart"},
            pytest.param({"criterion": "sensitivity", "pre_prune_schedule": "restart"}, marks=pytest.mark.slow),
            {"criterion": "sensitivity", "robust": True},
        ],
    )
    def test_a_level_interrupted_between_its_epochs_goes_on_from_there(self, prepare, tmp_path, further):
        settings = {"pre_train_epochs": 1, "pre_prune_epochs": 3, "pre_prune_upper_bound": 50, "pre_prune_step": 50}
        settings |= further
        prepare(tmp_path / "whole", **settings)
        with pytest.raises(RuntimeError, match="killed"):
            prepare(tmp_path / "broken", callbacks=stop_at("level 050", 2), **settings)
        counter = Counter()
        prepare(tmp_path / "broken", callbacks=counter, **settings)
        assert counter.epochs == [("level 050", 2)]
        assert level_files(tmp_path / "broken") == level_files(tmp_path / "whole")

    def test_levels_can_be_added(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        before = level_files(folder)
        counter = Counter()
        library = prepare(folder, callbacks=counter, pre_prune_step=15)
        assert library.percents == (100, 80, 65, 50, 35, 20)
        assert [stage for stage, _ in counter.epochs] == ["level 065", "level 035"]
        after = level_files(folder)
        assert {name: after[name] for name in before} == before

    def test_a_library_made_before_a_setting_existed_is_that_of_its_default(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        manifest = json.loads((folder / "library" / MANIFEST).read_text())
        for name in ("robust", "distillation", "pruning_cost", "weights_strict"):
            del manifest["settings"][name]
        (folder / "library" / MANIFEST).write_text(json.dumps(manifest))
        counter = Counter()
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

    def test_overwrite_begins_anew(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        counter = Counter()
        library = prepare(folder, callbacks=counter, overwrite=True, seed=3, pre_train_epochs=1, pre_prune_step=60)
        assert library.percents == (100, 80, 20)
        assert [stage for stage, _ in counter.epochs] == ["dense", "level 080", "level 020"]
        assert sorted(level_files(folder)) == [f"level_{level}.safetensors" for level in ("020", "080", "100")]

    def test_a_missing_level_file_is_named(self, shared_run, prepare, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(shared_run, folder)
        (folder / "library" / "level_020.safetensors").unlink()
        with pytest.raises(UserError, match="expected the weights of level 20 %"):
            prepare(folder, pre_prune_lower_bound=5, pre_prune_step=15)


class TestStart:
    def test_weights_of_the_user_skip_the_training(self, shared_library, prepare, tmp_path):
        file = tmp_path / "own.safetensors"
        save_file({key: value.contiguous() for key, value in shared_library.load_state(DENSE).items()}, file)
        counter = Counter()
        with pytest.warns(UserFact, match="The given weights have"):
            library = prepare(tmp_path / "run", callbacks=counter, weights=str(file), pre_prune_lower_bound=80)
        assert [stage for stage, _ in counter.epochs] == ["level 080"]
        assert library.record(DENSE).epochs == 0
        assert library.dense_accuracy == shared_library.dense_accuracy
        own, dense = library.load_state(DENSE), shared_library.load_state(DENSE)
        assert all(torch.equal(own[key], dense[key]) for key in dense)
        # The same weights in another file are accepted; other weights are not.
        moved = tmp_path / "moved.safetensors"
        shutil.move(file, moved)
        with pytest.warns(UserFact):
            prepare(tmp_path / "run", weights=str(moved), pre_prune_lower_bound=80)
        save_file({key: value + 1 for key, value in dense.items()}, moved)
        with pytest.raises(UserError, match="made with weights = "):
            prepare(tmp_path / "run", weights=str(moved), pre_prune_lower_bound=80)

    @pytest.mark.parametrize("epochs", [0, 1])
    def test_statistics_of_norms_belong_to_each_level(self, prepare, tmp_path, monkeypatch, epochs):
        def darken(images, kind, margin, *, mirror):
            return images // 2

        monkeypatch.setattr("emomc.lightning_modules.image_data.augmented", darken)

        class Normed(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(1, 4, 5, stride=4, bias=False)
                self.norm = nn.BatchNorm2d(4)
                self.fc = nn.Linear(4 * 49, 10)

            def forward(self, images):
                return self.fc(self.norm(self.conv(images)).relu().flatten(1))

        torch.manual_seed(0)
        library = prepare(tmp_path, module=Normed(), pre_train_epochs=1, pre_prune_step=60, pre_prune_epochs=epochs)
        data = build_data(DataConfig(batch_size=64))
        images = torch.cat(
            [data.normalise(darken(raw, "shift", 0, mirror=False)) for raw, _ in data.train_dataloader()]
        )
        for percent in (80, 20):
            state = library.load_state(percent)
            outputs = nn.functional.conv2d(images, state["conv.weight"], stride=4)
            # Over the augmented training images; an average over batches, of which the last is smaller.
            mean, deviation = outputs.mean((0, 2, 3)), outputs.std((0, 2, 3))
            assert float(((state["norm.running_mean"] - mean) / deviation).abs().max()) < 0.02
            assert float((state["norm.running_var"].sqrt() / deviation - 1).abs().max()) < 0.02

    def test_a_network_that_does_not_fit_the_data(self, prepare, tmp_path):
        network = build_network("lenet5", in_channels=1, num_classes=7, network_args={})
        with pytest.raises(UserError, match=r"to give 10 class scores, found an output of shape \(7,\)"):
            prepare(tmp_path, module=network)
        assert not (tmp_path / "library").exists()

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"exclude_layers": ["nothing*"]}, "to match a layer of conv1, .*, found 'nothing"),
            ({"exclude_layers": ["*"]}, "at least one layer to compress, found all 5 excluded"),
            ({"network": "lenet"}, "lenet5.*found 'lenet'"),
            ({"weights": "/nowhere/w.safetensors"}, "expected weights at /nowhere"),
            ({"dataset": "digts"}, "digits.*found 'digts'"),
        ],
    )
    def test_what_cannot_be_made_leaves_nothing_behind(self, prepare, tmp_path, settings, words):
        with pytest.raises(UserError, match=words):
            prepare(tmp_path / "run", **settings)
        assert not (tmp_path / "run" / "library").exists()


class TestOthers:
    def test_a_library_is_not_replaced_under_a_search(self, prepare, library):
        run = RunFolder.of_library(library.path)
        before = (library.path / "library.json").read_bytes()
        with shared_lock(run.library_lock, exclusive=False, holder=""):
            with pytest.raises(UserError, match="to be free, found it in use by a search of its library"):
                prepare(run.path, overwrite=True)
            assert (library.path / "library.json").read_bytes() == before
            assert prepare(run.path).percents == library.percents

    def test_a_library_that_is_replaced_is_not_searched(self, library, search):
        lock = RunFolder.of_library(library.path).library_lock
        with shared_lock(lock, exclusive=True, holder=""), pytest.raises(UserError, match="in use by emomc-pretrain"):
            search(library)

    def test_a_damaged_checkpoint_is_one_line(self, prepare, tmp_path):
        checkpoint = RunFolder(tmp_path / "run").checkpoint("dense")
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"PK\x03\x04 and then nothing")
        with pytest.raises(UserError, match="deleting it loses the epochs of this level alone") as caught:
            prepare(tmp_path / "run")
        assert str(checkpoint) in str(caught.value)
        assert "\n" not in str(caught.value)


class TestConfig:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"pre_train_epochs": -1}, r"pre_train_epochs of 0\.\.1000000, found -1"),
            ({"pre_train_epochs": 0}, "at least 1, or --weights, found 0"),
            ({"pre_prune_epochs": -1}, r"pre_prune_epochs of 0\.\."),
            ({"pre_prune_lower_bound": 0}, "1 <= pre_prune_lower_bound"),
            ({"pre_prune_upper_bound": 101}, "<= 100"),
            ({"pre_prune_lower_bound": 90}, "found 90 and 80"),
            ({"pre_prune_step": 0}, "pre_prune_step of at least 1 percent, found 0"),
            ({"pre_prune_ratio": 1.0}, "a pre_prune_ratio above 0 and below 1, found 1.0"),
            ({"pre_prune_ratio": math.nan}, "a pre_prune_ratio above 0"),
            ({"pre_prune_ratio": 0.8, "pre_prune_step": 10}, "pre_prune_step or pre_prune_ratio .*, found 10 and 0.8"),
            ({"distillation": 1.1}, r"a distillation of 0\.\.1, found 1.1"),
            ({"learning_rate": math.nan}, "a learning_rate above 0 and up to 1000, found nan"),
            ({"learning_rate": 0.0}, "a learning_rate above 0"),
            ({"learning_rate": math.inf}, "a learning_rate above 0"),
            ({"pre_prune_learning_rate": -1.0}, "a pre_prune_learning_rate above 0"),
            ({"weight_decay": -0.1}, "weight_decay"),
            ({"weight_decay": math.nan}, "weight_decay"),
            ({"label_smoothing": 1.5}, r"label_smoothing of 0\.\.1"),
            ({"evaluation_batch_size": 0}, r"evaluation_batch_size of 1\.\."),
            ({"seed": -1}, r"seed of 0\.\."),
            ({"seed": 10**30}, r"seed of 0\.\."),
            ({"evaluation_batch_size": 10**30}, r"evaluation_batch_size of 1\.\."),
            ({"learning_rate": 1e38}, "a learning_rate above 0 and up to 1000"),
        ],
    )
    def test_out_of_range(self, settings, words):
        with pytest.raises(UserError, match=words):
            PretrainingConfig(**settings)

    def test_levels_go_down_from_the_upper_bound(self):
        def levels(upper, lower, step):
            return PretrainingConfig(
                pre_prune_upper_bound=upper, pre_prune_lower_bound=lower, pre_prune_step=step
            ).levels

        assert levels(80, 20, 5) == (80, 75, 70, 65, 60, 55, 50, 45, 40, 35, 30, 25, 20)
        assert len(levels(80, 20, 1)) == 61
        assert levels(100, 2, 49) == (51, 2)
        assert levels(80, 30, 40) == (80, 40)
        assert levels(5, 5, 1) == (5,)

    @settings(max_examples=200, deadline=None)
    @given(st.tuples(st.integers(1, 100), st.integers(1, 100)).map(sorted), st.floats(0.01, 0.999))
    def test_levels_in_equal_ratios_go_from_bound_to_bound(self, bounds, ratio):
        lower, upper = bounds
        levels = PretrainingConfig(
            pre_prune_upper_bound=upper, pre_prune_lower_bound=lower, pre_prune_ratio=ratio
        ).levels
        whole = [upper, *levels] if upper == 100 else levels
        assert (whole[0], whole[-1]) == (upper, lower)
        for higher, level in pairwise(whole):
            # Rounded to a percent, but always lower.
            assert level < higher
            assert level == lower or level == min(higher - 1, round(higher * ratio))

    def test_levels_in_equal_ratios_by_hand(self):
        config = PretrainingConfig(pre_prune_upper_bound=80, pre_prune_lower_bound=2, pre_prune_ratio=0.6)
        assert config.levels == (80, 48, 29, 17, 10, 6, 4, 2)
