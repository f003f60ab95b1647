"""The callbacks of trainings and validations, under real Trainers."""

from __future__ import annotations

import hashlib
import re

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from emomc.callbacks.trainer.early_rejection import EarlyRejection
from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.callbacks.trainer.pruning_schedule import PruningSchedule
from emomc.data.resident import ResidentBlocks
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.lightning_modules.classifier import Classifier
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.runtime.recipe import Recipe
from emomc.runtime.seeds import derive_seed


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def data(images=48):
    generator = torch.Generator().manual_seed(1)
    pairs = TensorDataset(
        torch.randn(images, 1, 8, 8, generator=generator), torch.randint(3, (images,), generator=generator)
    )
    return DataLoader(pairs, batch_size=16)


def pruned():
    net = network()
    masks = {name: torch.ones_like(net.get_parameter(f"{name}.weight"), dtype=torch.bool) for name in ("0", "3")}
    return PrePruningClassifier(net, 3, Recipe(0.05, weight_decay=0.1), masks)


class Watch(pl.Callback):
    """Notes the masks and checks the weights after every step."""

    def __init__(self):
        self.densities = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        for name, weight in pl_module.weights.items():
            assert not weight[~pl_module.masks[name]].any()

    def on_train_epoch_end(self, trainer, pl_module):
        self.densities.append(pl_module.density)


pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step`")


class TestPruningSchedule:
    def test_prunes_at_each_epoch_and_keeps_zeros_after_every_step(self, tiny_trainer):
        watch = Watch()
        module = pruned()
        trainer = tiny_trainer(max_epochs=4, callbacks=[PruningSchedule([80, 50, 20]), watch])
        trainer.fit(module, data())
        total = sum(mask.numel() for mask in module.masks.values())
        expected = [sum((mask.numel() * p + 50) // 100 for mask in module.masks.values()) for p in (80, 50, 20, 20)]
        assert watch.densities == [count / total for count in expected]
        assert float(trainer.callback_metrics["density"]) == pytest.approx(watch.densities[-1])

    @pytest.mark.parametrize("percents", [[], [50, 80], [80, 50, 51]])
    def test_schedules_that_rise_or_are_empty(self, percents):
        with pytest.raises(ValueError, match="percentages that do not rise"):
            PruningSchedule(percents)

    @pytest.mark.parametrize("given", [{}, {"macs": {"fc": 1}}, {"batches": []}])
    def test_sensitivity_needs_macs_and_images(self, given):
        with pytest.raises(ValueError, match="expected macs= and batches= for the criterion 'sensitivity'"):
            PruningSchedule([50], "sensitivity", **given)

    def test_other_modules_are_refused(self, tiny_trainer):
        module = Classifier(network(), 3, Recipe(0.01))
        with pytest.raises(TypeError, match="expected a PrePruningClassifier to prune, found Classifier"):
            tiny_trainer(max_epochs=1, callbacks=[PruningSchedule([50])]).fit(module, data())


class TestEpochSeed:
    def test_draws_depend_on_key_and_epoch_alone(self, tiny_trainer):
        draws = []

        class Draw(pl.Callback):
            def on_train_batch_start(self, trainer, pl_module, batch, index):
                if index == 0:
                    draws.append((trainer.current_epoch, torch.rand(1).item()))

        for _ in range(2):
            torch.rand(7)
            tiny_trainer(max_epochs=2, callbacks=[EpochSeed(3, "level"), Draw()]).fit(pruned(), data())
        assert draws[:2] == draws[2:]
        assert draws[0][1] != draws[1][1]

    def test_seeds_differ_and_do_not_depend_on_the_process(self):
        seeds = {derive_seed(seed, stage, epoch) for seed in range(3) for stage in "ab" for epoch in range(3)}
        assert len(seeds) == 18
        assert all(0 <= seed < 2**63 for seed in seeds)
        # Fixed values, so that a library stays reproducible; hash() differs in each process.
        assert derive_seed(0, "start") == int.from_bytes(hashlib.sha256(b"(0, 'start')").digest()[:8], "big") >> 1


def test_epoch_lines(tiny_trainer, capsys):
    tiny_trainer(max_epochs=2, callbacks=[EpochLines("level 050", epochs_after=600)]).fit(pruned(), data(), data(16))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("level 050")]
    assert len(lines) == 2
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"level 050: epoch {epoch}/2, loss \d\.\d{{4}}, validation accuracy \d+\.\d\d %, density \d\.\d{{3}}, "
            r"\d+\.\d s, \d+ min left",
            line,
        )


class TestEarlyRejection:
    def validate(self, tiny_trainer, misses):
        images, labels = torch.zeros(40, 1, 8, 8), torch.tensor([1] * 10 + [0] * 30)
        blocks = ResidentBlocks(images, labels, 5)
        net = network()
        nn.init.zeros_(net[3].weight)
        net[3].bias.data = torch.tensor([1.0, 0.0, 0.0])
        module = CandidateClassifier(net, 3, 5)
        tiny_trainer(callbacks=[EarlyRejection(blocks, misses)]).validate(module, blocks, verbose=False)
        return module.seen, module.correct

    # The answer is always class 0: the first ten images are misclassified, all others classified correctly.
    @pytest.mark.parametrize(("misses", "seen"), [(0, 5), (4, 5), (5, 15), (9, 15), (10, 40), (40, 40)])
    def test_stops_after_the_block_with_one_miss_too_many(self, tiny_trainer, misses, seen):
        assert self.validate(tiny_trainer, misses) == (seen, seen - min(seen, 10))

    def test_other_modules_are_refused(self, tiny_trainer):
        trainer = tiny_trainer(
            callbacks=[EarlyRejection(ResidentBlocks(torch.zeros(1, 1, 1, 1), torch.zeros(1), 1), 0)]
        )
        with pytest.raises(TypeError, match="expected a CandidateClassifier to reject, found Classifier"):
            trainer.validate(Classifier(network(), 3, Recipe(0.01)), data(), verbose=False)
