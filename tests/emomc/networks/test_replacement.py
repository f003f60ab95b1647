"""Other tensors for one run: used wherever the network holds its own, which stay as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from emomc.networks.replacement import run_with


class Tied(nn.Module):
    """Two modules with one weight, and one of them under two names."""

    def __init__(self):
        super().__init__()
        self.whole = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4))
        self.first = self.whole[0]
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, images):
        return self.second(self.whole[1](self.first(images)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Tied().eval()


IMAGES = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["whole.0.weight", "first.weight", "second.weight"])
def test_is_the_network_with_these_weights_in_every_place(network, name):
    own = network.first.weight
    other = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    found = run_with(network, {name: other}, IMAGES)
    # The network holds the very parameters that it had: a later training reaches them.
    assert network.first.weight is own is network.second.weight is network.whole[0].weight
    with torch.no_grad():
        own.copy_(other)
    torch.testing.assert_close(found, network(IMAGES))


def test_changes_of_other_buffers_do_not_reach_the_network(network):
    network.train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    copies = {name: buffer.clone() for name, buffer in network.named_buffers()}
    run_with(network, copies, IMAGES)
    assert all(torch.equal(network.get_buffer(name), buffer) for name, buffer in before.items())
    assert not torch.equal(copies["whole.1.running_mean"], before["whole.1.running_mean"])


def test_gradients_reach_what_the_other_weights_were_made_of(network):
    weight = network.first.weight
    run_with(network, {"first.weight": 2 * weight}, IMAGES).sum().backward()
    assert weight.grad is not None
    assert weight.grad.any()


def test_without_other_tensors_is_the_network(network):
    torch.testing.assert_close(run_with(network, {}, IMAGES), network(IMAGES))


def test_a_name_that_is_not_there(network):
    with pytest.raises(KeyError, match="third"):
        run_with(network, {"third.weight": torch.zeros(4, 4)}, IMAGES)
