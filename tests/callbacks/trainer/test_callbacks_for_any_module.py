"""Callbacks that work with any LightningModule: pruning, random bits, and a factor of the learning rate."""

from fractions import Fraction

import pytest
import pytorch_lightning as pl
import torch

from emomc.callbacks.trainer.learning_rate_factor import LearningRateFactor
from emomc.callbacks.trainer.module_pruning import ModulePruning, PrunedNetwork
from emomc.callbacks.trainer.random_bits import RandomBits
from emomc.networks.graph import trace_layers
from tests.users_tasks import FEATURES, ManualOptimization, Points, Regressor


@pytest.fixture
def fit(tiny_trainer):
    def run(module, *callbacks, epochs=1):
        torch.manual_seed(0)
        trainer = tiny_trainer(max_epochs=epochs, callbacks=list(callbacks), limit_val_batches=0)
        trainer.fit(module, datamodule=Points())
        return module

    return run


def trained(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Scheduled(Regressor):
    """A schedule that computes every rate from those that it has stored."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 7)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.mark.parametrize("kind", [Regressor, Scheduled, ManualOptimization])
def test_the_factor_scales_every_step(fit, kind):
    torch.manual_seed(1)
    module = kind()
    start = trained(module)
    small = fit(module, LearningRateFactor(1e-6))
    assert (trained(small) - start).abs().max() < 1e-4
    assert torch.equal(trained(fit(_fresh(kind), LearningRateFactor(1.0))), trained(fit(_fresh(kind))))


def test_a_schedule_sees_its_own_rates(fit):
    seen = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(_fresh(Scheduled), LearningRateFactor(0.1), Look())
    scaled, seen[:] = seen[:], []
    fit(_fresh(Scheduled), Look())
    assert scaled == seen


def _fresh(kind):
    torch.manual_seed(1)
    return kind()


@pytest.mark.parametrize("kind", [Regressor, ManualOptimization])
def test_removed_weights_stay_at_zero(fit, kind):
    module = kind()
    layers = trace_layers(module.net, (FEATURES,))
    masks = {layer.name: torch.ones_like(module.net.get_parameter(layer.weight_key)) > 0 for layer in layers}
    pruned = PrunedNetwork(module.net, layers, masks)
    schedule = ModulePruning(pruned, [Fraction(60), Fraction(30)])
    fit(module, schedule, epochs=2)
    assert pruned.density == pytest.approx(0.3, abs=0.05)
    for name, mask in schedule.masks_of(module).items():
        assert not pruned.weights[name][~mask].any()
    again = ModulePruning(PrunedNetwork(module.net, layers, masks), [Fraction(30)])
    again.load_state_dict(schedule.state_dict())
    assert all(torch.equal(mask, pruned.masks[name]) for name, mask in again.pruned.masks.items())


@pytest.mark.parametrize("kind", [Regressor, ManualOptimization])
def test_random_bits_are_met_in_every_other_step_and_gone_before_the_next_one(fit, kind):
    module, values = kind(), []
    layers = trace_layers(module.net, (FEATURES,))
    weight = module.net[2].weight

    class Look(pl.Callback):
        def on_after_backward(self, *_):
            values.append(len(weight.unique()))

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            assert batch_idx % 2 or len(weight.unique()) == weight.numel()

    fit(module, Look(), RandomBits(module.net, layers))
    per_step = values[:: len(values) // 6]
    assert [count == weight.numel() for count in per_step[::2]] == [True] * 3
    assert len(weight.unique()) == weight.numel()


def test_random_bits_make_few_bits_cost_less(fit):
    def error_at_2_bits(*callbacks):
        torch.manual_seed(0)
        module = Regressor(width=32, learning_rate=0.005)
        layers = trace_layers(module.net, (FEATURES,))
        fit(module, *[make(module.net, layers) for make in callbacks], epochs=30)
        inputs, targets = _data()
        bits = RandomBits(module.net, layers)
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("emomc.callbacks.trainer.random_bits.MOST_BITS", 2)
            bits.on_train_batch_start(None, module, None, 1)
            return float((module.net(inputs) - targets).square().mean())

    assert error_at_2_bits(RandomBits) < error_at_2_bits()


def _data():
    points = Points()
    points.setup("fit")
    return points.parts[1][:]
