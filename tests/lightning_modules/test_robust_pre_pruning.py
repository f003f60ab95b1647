"""Robust levels: what the loss is made of, what the second run leaves alone, and what training so is good for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from emomc.compression.fake_quantization import fake_quantize
from emomc.lightning_modules import robust_pre_pruning
from emomc.lightning_modules.distillation import TEMPERATURE, Teacher
from emomc.lightning_modules.robust_pre_pruning import RobustPrePruningClassifier
from emomc.networks.graph import trace_network
from emomc.networks.preparation import make_plain
from emomc.runtime.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step`")


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 36, 3)

    def forward(self, images):
        return self.fc(self.norm(self.conv(images)).relu().flatten(1))


def network(seed=0):
    torch.manual_seed(seed)
    return Normed()


def layers_of(net):
    graph = trace_network(make_plain(copy.deepcopy(net), (1, 8, 8)), (1, 8, 8))
    return [layer for layer in graph.layers if layer.stored]


@pytest.fixture
def drawn_between(monkeypatch):
    """Draw bits between others than usual."""

    def between(fewest, most):
        monkeypatch.setattr(robust_pre_pruning, "FEWEST_BITS", fewest)
        monkeypatch.setattr(robust_pre_pruning, "MOST_BITS", most)

    return between


def robust(net, *, distillation=0.5, teacher=None):
    layers = layers_of(net)
    masks = {layer.name: torch.ones_like(net.get_parameter(layer.weight_key)) > 0 for layer in layers}
    teacher = Teacher((teacher or network(1)).eval(), distillation)
    return RobustPrePruningClassifier(net, 3, Recipe(0.02), masks, layers, teacher)


def batch(images=32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, 1, 8, 8, generator=generator), torch.randint(3, (images,), generator=generator)


class TestLoss:
    def test_is_the_mean_of_the_plain_and_the_quantized_run(self, drawn_between):
        images, labels = batch()
        drawn_between(3, 3)
        module = robust(network()).eval()
        teacher = network(1).eval()

        def taught(net):
            scores, answers = net(images), teacher(images)
            soft = (answers / TEMPERATURE).softmax(1)
            divergence = functional.kl_div((scores / TEMPERATURE).log_softmax(1), soft, reduction="batchmean")
            return 0.5 * functional.cross_entropy(scores, labels) + 0.5 * TEMPERATURE**2 * divergence

        rounded = network().eval()
        with torch.no_grad():
            for part in (rounded.conv, rounded.fc):
                part.weight.copy_(fake_quantize(part.weight, 3))
        expected = 0.5 * (taught(network().eval()) + taught(rounded))
        torch.testing.assert_close(module.loss(images, labels), expected)

    def test_without_distillation_the_teacher_does_not_matter(self, drawn_between):
        images, labels = batch()
        drawn_between(4, 4)
        losses = [
            robust(network(), distillation=0.0, teacher=network(seed)).loss(images, labels).item() for seed in (5, 6)
        ]
        assert losses[0] == losses[1]

    def test_bits_are_drawn_anew_for_each_batch_and_layer(self):
        images, labels = batch()
        module = robust(network()).eval()
        torch.manual_seed(0)
        losses = {module.loss(images, labels).item() for _ in range(20)}
        # Seven numbers of bits in each of two layers.
        assert len(losses) > 10

    def test_gradients_reach_weights_norms_and_biases(self):
        module = robust(network()).train()
        module.loss(*batch()).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.network.parameters())


class TestQuantizedRun:
    def test_norms_learn_from_the_plain_run_alone(self):
        images, labels = batch()
        module, plain = robust(network()).train(), network().train()
        module.loss(images, labels)
        plain(images)
        for name, buffer in plain.named_buffers():
            torch.testing.assert_close(module.network.get_buffer(name), buffer)

    def test_the_teacher_is_neither_trained_nor_saved(self, tiny_trainer):
        teacher = network(1)
        before = copy.deepcopy(teacher.state_dict())
        module = robust(network(), teacher=teacher)
        tiny_trainer(max_epochs=1).fit(module, DataLoader(TensorDataset(*batch()), batch_size=8))
        assert all(torch.equal(teacher.state_dict()[key], value) for key, value in before.items())
        assert set(module.state_dict()) == {f"network.{key}" for key in before} | {"mask_0", "mask_1"}


def test_training_so_keeps_the_accuracy_of_quantized_weights(tiny_trainer, drawn_between):
    drawn_between(2, 3)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (240,), generator=generator)
    patterns = torch.randn(3, 1, 8, 8, generator=generator)
    images = patterns[labels] + 1.5 * torch.randn(240, 1, 8, 8, generator=generator)
    data = DataLoader(TensorDataset(images, labels), batch_size=24)
    module = robust(network(), distillation=0.0)
    tiny_trainer(max_epochs=12).fit(module, data)
    trained = module.network.eval()
    rounded = copy.deepcopy(trained)
    with torch.no_grad():
        for part in (rounded.conv, rounded.fc):
            part.weight.copy_(fake_quantize(part.weight, 2))
        losses = [functional.cross_entropy(net(images), labels).item() for net in (trained, rounded)]
    assert losses[0] < 0.4
    assert losses[1] < losses[0] + 0.3
