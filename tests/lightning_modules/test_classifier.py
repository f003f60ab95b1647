"""Training: logged values, weight decay, and the schedule of the learning rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.lightning_modules.classifier import Classifier
from emomc.lightning_modules.pre_pruning import PrePruningClassifier
from emomc.runtime.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step`")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 36, 3)

    def forward(self, images):
        return self.fc(self.norm(self.conv(images)).relu().flatten(1))


class Rates(Classifier):
    """Records the learning rate of each step."""

    def on_train_batch_start(self, batch, batch_index):
        self.rates = [*getattr(self, "rates", []), self.optimizers().param_groups[0]["lr"]]


def network():
    torch.manual_seed(0)
    return Small()


def loader(images=48, batch_size=16, classes=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    pairs = TensorDataset(
        torch.randn(images, 1, 8, 8, generator=generator), torch.randint(classes, (images,), generator=generator)
    )
    return DataLoader(pairs, batch_size=batch_size)


class TestTraining:
    def test_learns_what_can_be_learnt(self, tiny_trainer):
        module = Classifier(network(), 3, Recipe(0.02))
        data = loader(24, 8)
        before = tiny_trainer().validate(module, data, verbose=False)[0]
        tiny_trainer(max_epochs=25).fit(module, data, data)
        after = tiny_trainer().validate(module, data, verbose=False)[0]
        assert after["val/accuracy"] > 0.9 > before["val/accuracy"]
        assert after["val/loss"] < before["val/loss"]

    def test_accuracy_is_over_images_and_not_over_classes(self, tiny_trainer):
        module = Classifier(network(), 3, Recipe(0.01))
        nn.init.zeros_(module.network.fc.weight)
        module.network.fc.bias.data = torch.tensor([1.0, 0.0, 0.0])
        labels = torch.tensor([0] * 9 + [1] * 2 + [2])
        data = DataLoader(TensorDataset(torch.randn(12, 1, 8, 8), labels), batch_size=5)
        # The average over classes would be a third.
        assert tiny_trainer().validate(module, data, verbose=False)[0]["val/accuracy"] == pytest.approx(9 / 12)

    @pytest.mark.parametrize("channels_last", [True, False])
    def test_scores_do_not_depend_on_the_memory_format(self, channels_last):
        images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(3))
        module = Classifier(network(), 3, Recipe(0.01, channels_last=channels_last)).eval()
        torch.testing.assert_close(module(images), network().eval()(images), atol=1e-6, rtol=1e-5)

    def test_label_smoothing_changes_the_loss_of_training_alone(self, tiny_trainer):
        data = loader()
        losses = []
        for smoothing in (0.0, 0.5):
            module = Classifier(network(), 3, Recipe(0.01, label_smoothing=smoothing)).eval()
            validation = tiny_trainer().validate(module, data, verbose=False)[0]["val/loss"]
            module.log = lambda *_, **__: None
            losses.append((validation, module.training_step(next(iter(data)), 0).item()))
        assert losses[0][0] == losses[1][0]
        assert losses[0][1] != losses[1][1]

    @pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
    def test_biases_and_norms_are_not_decayed(self, tiny_trainer, optimizer):
        module = Classifier(network(), 3, Recipe(0.01, optimizer=optimizer, weight_decay=0.3))
        trainer = tiny_trainer(max_epochs=1)
        trainer.fit(module, loader())
        decay = {
            id(parameter): group["weight_decay"]
            for group in trainer.optimizers[0].param_groups
            for parameter in group["params"]
        }
        assert {name: decay[id(parameter)] for name, parameter in module.network.named_parameters()} == {
            "conv.weight": 0.3,
            "conv.bias": 0.0,
            "norm.weight": 0.0,
            "norm.bias": 0.0,
            "fc.weight": 0.3,
            "fc.bias": 0.0,
        }


class TestLearningRate:
    def rates(self, tiny_trainer, epochs, **recipe):
        module = Rates(network(), 3, Recipe(0.1, optimizer="sgd", **recipe))
        tiny_trainer(max_epochs=epochs).fit(module, loader(32, 16))
        return module.rates

    def test_one_cycle_rises_once_and_falls_to_nearly_nothing(self, tiny_trainer):
        rates = self.rates(tiny_trainer, 10, warmup_fraction=0.3)
        top = rates.index(max(rates))
        assert max(rates) == pytest.approx(0.1, rel=0.05)
        assert 4 <= top <= 7
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert rates[-1] < 0.005

    def test_one_cycle_of_very_few_steps(self, tiny_trainer):
        assert len(self.rates(tiny_trainer, 1, warmup_fraction=0.1)) == 2

    def test_cosine_falls_from_the_start(self, tiny_trainer):
        rates = self.rates(tiny_trainer, 5, schedule="cosine")
        assert rates[0] == 0.1
        assert rates[5] == pytest.approx(0.05)
        assert rates == sorted(rates, reverse=True)

    def test_halving_halves_every_30_epochs(self, tiny_trainer):
        rates = self.rates(tiny_trainer, 61, schedule="halving")
        assert [rates[2 * epoch] for epoch in (0, 29, 30, 59, 60)] == [0.1, 0.1, 0.05, 0.05, 0.025]


class TestPrePruning:
    def masked(self):
        net = network()
        generator = torch.Generator().manual_seed(2)
        masks = {
            name: torch.rand(net.get_parameter(f"{name}.weight").shape, generator=generator) < 0.5
            for name in ("conv", "fc")
        }
        return PrePruningClassifier(net, 3, Recipe(0.01), masks), masks

    def test_masks_and_weights_by_layer_name(self):
        module, masks = self.masked()
        assert list(module.masks) == ["conv", "fc"]
        assert all(torch.equal(module.masks[name], mask) for name, mask in masks.items())
        assert module.weights["fc"] is module.network.fc.weight
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert module.density == kept / sum(mask.numel() for mask in masks.values())

    def test_masks_are_the_modules_own_and_part_of_its_state(self):
        module, masks = self.masked()
        state = module.state_dict()
        module.set_masks({name: torch.zeros_like(mask) for name, mask in masks.items()})
        assert any(mask.any() for mask in masks.values())
        assert module.density == 0
        assert not module.network.conv.weight.any()
        other, _ = self.masked()
        other.set_masks({name: torch.ones_like(mask) for name, mask in masks.items()})
        other.load_state_dict({key: value.clone() for key, value in state.items()})
        assert other.density == 0

    def test_applying_masks_touches_nothing_else(self):
        module, masks = self.masked()
        before = {key: value.clone() for key, value in module.network.state_dict().items()}
        module.apply_masks()
        for key, value in module.network.state_dict().items():
            mask = masks.get(key.removesuffix(".weight"), torch.tensor(True)) if key.endswith("weight") else 1
            expected = before[key] if key.startswith("norm") else before[key] * mask
            assert torch.equal(value, expected), key


class TestCandidate:
    def test_counts_are_whole_numbers_and_begin_anew(self, tiny_trainer):
        net = network().eval()
        module = CandidateClassifier(net, 3, 8)
        data = loader(50, 16)
        images, labels = data.dataset.tensors
        with torch.no_grad():
            expected = int((net(images).argmax(1) == labels).sum())
        for _ in range(2):
            tiny_trainer().validate(module, data, verbose=False)
            assert (module.correct, module.seen, module.finite) == (expected, 50, True)

    def test_processes_never_average_their_candidates(self):
        assert CandidateClassifier(network(), 3, 8).accuracy.sync_on_compute is False

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_scores_that_are_not_finite_show(self, tiny_trainer, value):
        net = network().eval()
        module = CandidateClassifier(net, 3, 8)
        net.fc.bias.data[1] = value
        tiny_trainer().validate(module, loader(), verbose=False)
        assert not module.finite
        net.fc.bias.data[1] = 0.0
        tiny_trainer().validate(module, loader(), verbose=False)
        assert module.finite
