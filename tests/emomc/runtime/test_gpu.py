from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from emomc.common.errors import UserError
from emomc.runtime.devices import Devices
from emomc.runtime.gpu import GraphedNetwork
from emomc.runtime.trainers import training_trainer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def test_graphs_are_refused_on_a_cpu() -> None:
    devices = Devices(accelerator="cpu", devices=1, cuda_graphs=True)
    with pytest.raises(UserError, match="expected one CUDA GPU for cuda_graphs, found '1 of kind cpu'"):
        training_trainer(devices, enable_progress_bar=False, max_epochs=1, logger=False)


@needs_gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.filterwarnings("ignore:The AccumulateGrad node")
def test_graphs_train_as_the_network_itself(precision: torch.dtype | None) -> None:
    """Batches of two sizes, a norm with statistics, and a dropout that draws random numbers."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.0), nn.Flatten(), nn.Linear(8 * 36, 10)
    ).cuda()
    graphed = copy.deepcopy(network)
    batches = [torch.randn(size, 3, 8, 8, device="cuda") for size in (16, 15, 16, 15)]
    labels = torch.arange(16, device="cuda") % 10
    random = torch.cuda.get_rng_state()
    _train(network, network, batches, labels, precision)
    torch.cuda.set_rng_state(random)
    _train(graphed, GraphedNetwork(graphed), batches, labels, precision)
    for (name, expected), found in zip(network.state_dict().items(), graphed.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, msg=name)


def _train(
    network: nn.Module,
    run: nn.Module | GraphedNetwork,
    batches: list[torch.Tensor],
    labels: torch.Tensor,
    precision: torch.dtype | None,
) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for images in batches:
        with torch.autocast("cuda", precision, enabled=precision is not None):
            loss = functional.cross_entropy(run(images), labels[: len(images)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
