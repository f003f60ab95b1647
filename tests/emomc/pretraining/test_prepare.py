"""Stage I: the levels have their declared density, and start from what the user gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from emomc.common.errors import UserError, UserFact
from emomc.common.files import shared_lock
from emomc.common.pareto import non_dominated
from emomc.common.run_folder import RunFolder
from emomc.compression.pruning import remaining_count
from emomc.compression.sensitivity import weight_prices
from emomc.data.config import DataConfig
from emomc.library.data_sources import build_data
from emomc.library.manifest import DENSE
from emomc.networks.build import build_network


class TestLevels:
    def test_are_those_asked_for_with_exact_densities(self, shared_library):
        assert shared_library.levels == (100, 80, 50, 20)
        for record in shared_library.manifest.levels:
            for layer in shared_library.manifest.layers:
                assert record.remaining[layer.name] == (layer.weights * record.percent + 50) // 100

    def test_removed_weights_are_zero_and_masks_are_nested(self, shared_library):
        higher = None
        for percent in shared_library.levels:
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

    @pytest.mark.parametrize(
        "criterion", ["macs", *(pytest.param(name, marks=pytest.mark.slow) for name in ("global", "lamp"))]
    )
    def test_of_the_other_criteria_keep_the_share_of_all_weights(self, prepare, tmp_path, criterion):
        library = prepare(tmp_path, criterion=criterion, pre_prune_lower_bound=50, pre_train_epochs=1)
        for percent in (80, 50):
            kept = library.record(percent).remaining
            total = sum(layer.weights for layer in library.manifest.layers)
            assert sum(kept.values()) == (total * percent + 50) // 100
            shares = [kept[layer.name] / layer.weights for layer in library.manifest.layers]
            assert max(shares) - min(shares) > 0.05
            assert min(shares) >= 0.2 * percent / 100 - 0.01

    @pytest.mark.parametrize(
        "cost", ["both", *(pytest.param(cost, marks=pytest.mark.slow) for cost in ("macs", "weights"))]
    )
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

        settings = {"pre_train_epochs": 1, "pre_prune_epochs": 2, "pre_prune_schedule": "restart"}
        library = prepare(
            tmp_path / "both", callbacks=lambda stage: [Densities(stage)], pre_prune_upper_bound=50, **settings
        )
        total = sum(layer.weights for layer in library.manifest.layers)
        for percent in (50, 20):
            for step, density in enumerate(densities[f"level {percent:03d}"], 1):
                # Each layer rounds separately, by at most half a weight.
                assert density == pytest.approx((percent / 100) ** (step / 2), abs=len(library.manifest.layers) / total)
        for name, count in library.record(20).remaining.items():
            weights = next(layer.weights for layer in library.manifest.layers if layer.name == name)
            assert count == remaining_count(weights, 20)
        # From the dense network, not from level 50: without level 50 it is the same.
        alone = prepare(tmp_path / "alone", pre_prune_upper_bound=20, **settings)
        assert alone.levels == (100, 20)
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


class TestStart:
    def test_weights_of_the_user_skip_the_training(self, shared_library, prepare, tmp_path, counter):
        file = tmp_path / "own.safetensors"
        save_file({key: value.contiguous() for key, value in shared_library.load_state(DENSE).items()}, file)
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
            assert prepare(run.path).levels == library.levels

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
