"""Plain weights: what torch computes from parameters is baked in, and the scores stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as older_spectral_norm
from torch.nn.utils import weight_norm as older_weight_norm

from emomc.common.errors import UserError
from emomc.networks.graph import trace_network
from emomc.networks.preparation import make_plain, plain_copy

SHAPE = (2, 6, 6)
NORMS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "older weight norm": older_weight_norm,
    "older spectral norm": older_spectral_norm,
}


class Net(nn.Module):
    def __init__(self, normed):
        super().__init__()
        self.conv = normed(nn.Conv2d(2, 4, 3))
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("name", NORMS)
def test_norms_of_weights_are_baked_in(name):
    torch.manual_seed(0)
    network = Net(NORMS[name]).eval()
    images = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = network(images)
        copied = plain_copy(network, SHAPE)
        torch.testing.assert_close(copied(images), expected)
        assert dict(copied.named_parameters()).keys() == {"conv.weight", "conv.bias", "head.weight", "head.bias"}
        assert all(layer.stored for layer in trace_network(copied, SHAPE).layers)
        # The given network is as it was.
        torch.testing.assert_close(network(images), expected)
        assert "conv.weight" not in dict(network.named_parameters())
        # A level is read into what was made.
        copied.load_state_dict(copied.state_dict())


def test_a_parametrization_with_several_inputs_and_no_way_back_is_baked_in_too():
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    network = Net(lambda layer: layer)
    parametrize.register_parametrization(network.conv, "weight", Doubled())
    images = torch.randn(2, *SHAPE)
    expected = network(images)
    torch.testing.assert_close(make_plain(network, SHAPE)(images), expected)
    assert not parametrize.is_parametrized(network.conv)


def test_lazy_modules_get_their_shapes_and_the_mode_stays():
    network = nn.Sequential(nn.LazyConv2d(3, 3), nn.Flatten(), nn.LazyLinear(5))
    assert make_plain(network, SHAPE).training
    assert network[2].weight.shape == (5, 48)


def test_lazy_modules_of_a_network_that_fails():
    network = nn.Sequential(nn.LazyConv2d(3, 9))
    with pytest.raises(UserError, match=r"images of shape \(2, 6, 6\), found that Sequential fails"):
        make_plain(network, SHAPE)
