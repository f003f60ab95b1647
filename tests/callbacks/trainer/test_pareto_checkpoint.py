"""ParetoCheckpoint with real Trainers: what it keeps, deletes, remembers and refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from emomc.callbacks.trainer.pareto_checkpoint import ParetoCheckpoint
from emomc.common.errors import UserError

MONITOR = {"val/accuracy": "max", "density": "min"}
# Epoch by epoch: a start; better in both; a trade-off; dominated; the same again; better than all.
SCRIPT = [(0.80, 0.9), (0.90, 0.8), (0.85, 0.5), (0.84, 0.6), (0.85, 0.5), (0.95, 0.4)]


KEPT = {"path": "a.ckpt", "metrics": {"val/accuracy": 0.5, "density": 0.1}, "epoch": 0, "step": 1}


class Scripted(pl.LightningModule):
    """Logs given metrics, one pair per epoch; its only weight counts the epochs."""

    def __init__(self, script, late_density=False):
        super().__init__()
        self.script, self.late_density = script, late_density
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return self.weight.sum()

    def on_train_epoch_start(self):
        with torch.no_grad():
            self.weight.fill_(float(self.current_epoch))

    def validation_step(self, batch, batch_idx):
        accuracy, density = self.script[self.current_epoch]
        self.log("val/accuracy", accuracy)
        if not self.late_density:
            self.log("density", density)

    def on_train_epoch_end(self):
        if self.late_density:
            self.log("density", self.script[self.current_epoch][1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.zeros(2, 1)), batch_size=1)

    val_dataloader = train_dataloader


def trainer(root, *callbacks, epochs=6, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings_ = {**quiet, "max_epochs": epochs, "num_sanity_val_steps": 1, **options}
    return pl.Trainer(default_root_dir=root, callbacks=list(callbacks), **settings_)


def fit(root, script=SCRIPT, callback=None, module=None, **options):
    callback = callback or ParetoCheckpoint(MONITOR, root / "kept")
    trainer(root, callback, epochs=len(script), **options).fit(module or Scripted(script))
    return callback


def files(callback):
    return sorted(path.name for path in Path(callback.dirpath).glob("*"))


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*logging interval.*")


class TestWhatIsKept:
    @pytest.mark.parametrize(("epochs", "kept"), [(1, [0]), (2, [1]), (3, [1, 2]), (4, [1, 2]), (5, [1, 2]), (6, [5])])
    def test_the_front_and_nothing_else(self, tmp_path, epochs, kept):
        callback = fit(tmp_path, SCRIPT[:epochs])
        assert [entry.epoch for entry in callback.kept] == kept
        assert files(callback) == [f"epoch={epoch:03d}-step={2 * epoch + 2}.ckpt" for epoch in kept]

    def test_files_hold_the_weights_of_their_epoch(self, tmp_path):
        for entry in fit(tmp_path, SCRIPT[:4]).kept:
            content = torch.load(entry.path, weights_only=True)
            assert content["state_dict"]["weight"].item() == entry.epoch == content["epoch"]
            assert content["global_step"] == entry.step

    def test_metrics_are_those_logged(self, tmp_path):
        callback = fit(tmp_path, SCRIPT[:4])
        metrics = [(round(e.metrics["val/accuracy"], 4), round(e.metrics["density"], 4)) for e in callback.kept]
        assert metrics == [(0.90, 0.8), (0.85, 0.5)]
        assert callback.best("val/accuracy").epoch == 1
        assert callback.best("density").epoch == 2

    @settings(max_examples=5, deadline=None)
    @given(script=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5))
    def test_any_course_of_training(self, script, tmp_path_factory):
        callback = fit(tmp_path_factory.mktemp("run"), [(a / 4, d / 4) for a, d in script])
        best = [(a, d) for a, d in set(script) if not any(x >= a and y <= d and (x, y) != (a, d) for x, y in script)]
        kept = [(int(4 * e.metrics["val/accuracy"]), int(4 * e.metrics["density"])) for e in callback.kept]
        assert sorted(kept) == sorted(best)
        assert [script[e.epoch] for e in callback.kept] == kept
        assert len(files(callback)) == len(kept)

    def test_metrics_logged_at_the_end_of_the_training_epoch_count(self, tmp_path):
        callback = fit(tmp_path, SCRIPT[:4], module=Scripted(SCRIPT, late_density=True))
        assert [entry.epoch for entry in callback.kept] == [1, 2]

    def test_three_metrics_and_one(self, tmp_path):
        one = ParetoCheckpoint({"density": "min"}, tmp_path / "one")
        three = ParetoCheckpoint({**MONITOR, "extra": "max"}, tmp_path / "three")

        class Extra(Scripted):
            def validation_step(self, batch, batch_idx):
                super().validation_step(batch, batch_idx)
                self.log("extra", float(-self.current_epoch))

        trainer(tmp_path, one, three, epochs=4).fit(Extra(SCRIPT))
        assert [entry.epoch for entry in one.kept] == [2]
        assert sorted(entry.epoch for entry in three.kept) == [0, 1, 2]


class TestWhenItLooks:
    def test_not_in_the_sanity_check_nor_outside_of_fitting(self, tmp_path):
        callback = ParetoCheckpoint(MONITOR, tmp_path / "kept")
        trainer(tmp_path, callback).validate(Scripted(SCRIPT), verbose=False)
        assert callback.kept == []
        assert not (tmp_path / "kept").exists()

    def test_not_in_a_dry_run(self, tmp_path):
        callback = ParetoCheckpoint(MONITOR, tmp_path / "kept")
        trainer(tmp_path, callback, fast_dev_run=True).fit(Scripted(SCRIPT))
        assert callback.kept == []

    @pytest.mark.parametrize(
        ("options", "steps"),
        [
            ({"val_check_interval": 1}, [3, 5]),
            ({"val_check_interval": 0.5}, [3, 5]),
            ({"check_val_every_n_epoch": 2}, [4, 8]),
        ],
    )
    def test_at_validations_that_are_not_once_an_epoch(self, tmp_path, options, steps):
        callback = fit(tmp_path, SCRIPT[:4], **options)
        assert [entry.step for entry in callback.kept] == steps

    def test_without_validation(self, tmp_path):
        class Trained(Scripted):
            def on_train_epoch_end(self):
                self.log("density", self.script[self.current_epoch][1])

        callback = ParetoCheckpoint({"density": "min"}, tmp_path / "kept")
        fit(tmp_path, callback=callback, module=Trained(SCRIPT), limit_val_batches=0)
        assert [entry.epoch for entry in callback.kept] == [5]

    def test_at_the_end_of_validations_if_asked(self, tmp_path):
        callback = ParetoCheckpoint(MONITOR, tmp_path / "kept", save_on_train_epoch_end=False)
        with pytest.raises(UserError, match="density"):
            fit(tmp_path, callback=callback, module=Scripted(SCRIPT, late_density=True))


class TestNames:
    def test_metrics_in_names(self, tmp_path):
        callback = ParetoCheckpoint(MONITOR, tmp_path / "kept", "e{epoch}-acc={val/accuracy:.2f}-d={density:.1f}")
        fit(tmp_path, SCRIPT[:4], callback)
        assert files(callback) == ["e1-acc=0.90-d=0.8.ckpt", "e2-acc=0.85-d=0.5.ckpt"]

    def test_taken_names_are_left_alone(self, tmp_path):
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "net.ckpt").write_text("mine")
        callback = fit(tmp_path, SCRIPT[:4], ParetoCheckpoint(MONITOR, tmp_path / "kept", "net"))
        assert len(files(callback)) == 3
        assert (tmp_path / "kept" / "net.ckpt").read_text() == "mine"
        assert len({entry.path for entry in callback.kept}) == 2

    def test_folder_of_the_trainer_unless_given(self, tmp_path):
        callback = fit(tmp_path, SCRIPT[:1], ParetoCheckpoint(MONITOR))
        assert callback.dirpath == tmp_path / "checkpoints"

    def test_folder_of_the_logger(self, tmp_path):
        logger = pl.loggers.CSVLogger(tmp_path, name="logs", version="a")
        callback = fit(tmp_path, SCRIPT[:1], ParetoCheckpoint(MONITOR), logger=logger)
        assert callback.dirpath == tmp_path / "logs" / "a" / "checkpoints"

    def test_weights_only_files_have_no_optimizer(self, tmp_path):
        callback = fit(tmp_path, SCRIPT[:1], ParetoCheckpoint(MONITOR, tmp_path / "kept", save_weights_only=True))
        assert "optimizer_states" not in torch.load(callback.kept[0].path, weights_only=True)


class TestState:
    def test_a_resumed_run_goes_on_with_the_front(self, tmp_path):
        first = fit(tmp_path, SCRIPT[:4])
        start = first.best("density")
        second = ParetoCheckpoint(MONITOR, tmp_path / "kept")
        # Epoch 3 repeats the densest front point, so a callback without the restored front would save it again.
        script = [*SCRIPT[:3], (0.90, 0.8), (0.99, 0.7)]
        trainer(tmp_path, second, epochs=5).fit(Scripted(script), ckpt_path=start.path, weights_only=True)
        assert [entry.epoch for entry in second.kept] == [4, 2]
        assert not first.best("val/accuracy").path.exists()

    def test_files_that_went_are_dropped_and_named(self, tmp_path):
        first = fit(tmp_path, SCRIPT[:4])
        start, gone = first.best("density"), first.best("val/accuracy")
        gone.path.unlink()
        second = ParetoCheckpoint(MONITOR, tmp_path / "kept")
        with pytest.warns(UserWarning, match=gone.path.name):
            trainer(tmp_path, second, epochs=4).fit(Scripted(SCRIPT), ckpt_path=start.path, weights_only=True)
        assert [entry.epoch for entry in second.kept] == [2]

    def test_state_is_plain_and_comes_back(self, tmp_path):
        first = fit(tmp_path, SCRIPT[:4])
        second = ParetoCheckpoint(MONITOR)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert second.kept == first.kept

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            ([], "expected the front of checkpoints, found a list"),
            ({}, "an entry kept"),
            ({"kept": [{}]}, r"an entry kept\[0\]\.path"),
            ({"kept": [KEPT | {"epoch": "3"}]}, r"a whole number as kept\[0\]\.epoch, found '3'"),
            ({"kept": [KEPT | {"metrics": {"loss": 1.0}}]}, "with the metrics val/accuracy, density, found loss"),
            ({"kept": [KEPT | {"path": "/elsewhere/thesis"}]}, r"end in \.ckpt, found /elsewhere/thesis"),
        ],
    )
    def test_a_state_that_is_none_is_refused(self, state, words):
        with pytest.raises(UserError, match=words):
            ParetoCheckpoint(MONITOR).load_state_dict(state)

    def test_a_folder_of_its_own_holds_all_that_is_deleted(self, tmp_path):
        front = ParetoCheckpoint(MONITOR, tmp_path / "kept", own_folder=True)
        front.load_state_dict({"kept": [KEPT | {"path": "/elsewhere/a.ckpt"}]})
        assert [entry.path for entry in front.kept] == [tmp_path / "kept" / "a.ckpt"]

    def test_other_metrics_other_state(self):
        assert ParetoCheckpoint(MONITOR).state_key != ParetoCheckpoint({"density": "min"}).state_key


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (({},), "found none"),
            (({"loss": "down"},), "'down'"),
            ((MONITOR, "x", ""), "without folders"),
            ((MONITOR, "x", "a/{epoch}"), "without folders"),
            ((MONITOR, "x", "{epoch"), "fields such as {epoch}"),
        ],
    )
    def test_wrong_arguments(self, arguments, words):
        with pytest.raises(UserError, match=words):
            ParetoCheckpoint(*arguments)

    def test_metric_that_is_not_logged_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"beauty.*found val/accuracy, density"):
            fit(tmp_path, callback=ParetoCheckpoint({"beauty": "max"}, tmp_path / "kept"))

    def test_name_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(UserError, match="found beauty"):
            fit(tmp_path, callback=ParetoCheckpoint(MONITOR, tmp_path / "kept", "{beauty}"))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_metrics_that_are_not_finite_are_skipped_with_a_warning(self, tmp_path, bad):
        with pytest.warns(UserWarning, match="not saved in epoch 1"):
            callback = fit(tmp_path, [(0.5, 0.5), (bad, 0.1), (0.6, 0.6)])
        assert [entry.epoch for entry in callback.kept] == [2, 0]

    def test_best_of_nothing(self):
        with pytest.raises(UserError, match="none yet"):
            ParetoCheckpoint(MONITOR).best("density")
        with pytest.raises(UserError, match="'beauty'"):
            ParetoCheckpoint(MONITOR).best("beauty")


@pytest.mark.slow
def test_two_ranks_agree_even_if_their_metrics_differ(tmp_path):
    """Rank 1 logs opposite metrics, but rank 0 decides; a rank that decided for itself would hang or differ."""
    code = f"""
        import json, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import pytorch_lightning as pl
        from test_pareto_checkpoint import MONITOR, SCRIPT, Scripted, trainer
        from emomc.callbacks.trainer.pareto_checkpoint import ParetoCheckpoint

        class Ranked(Scripted):
            def on_fit_start(self):
                if self.global_rank:
                    self.script = self.script[::-1]

            def on_fit_end(self):
                said = Path({str(tmp_path)!r}) / f"rank{{self.global_rank}}.json"
                said.write_text(json.dumps([kept.epoch for kept in callback.kept]))

        if __name__ == "__main__":
            callback = ParetoCheckpoint(MONITOR, {str(tmp_path / "kept")!r})
            made = trainer({str(tmp_path)!r}, callback, epochs=4, devices=2, strategy="ddp_fork")
            made.fit(Ranked(SCRIPT[:4]))
    """
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, cwd=tmp_path)
    # The exit status is not checked: gloo's threads may abort a process that has finished.
    assert (tmp_path / "rank1.json").exists(), done.stderr[-2000:]
    assert [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)] == [[1, 2], [1, 2]]
    assert len(list((tmp_path / "kept").glob("*.ckpt"))) == 2
