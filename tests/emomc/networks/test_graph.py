"""The graph: its layers against an independent count, and a digest of the computation alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from emomc.common.user_code import load_object
from emomc.networks.graph import count_macs, trace_layers, trace_network
from emomc.networks.preparation import make_plain

USERS = Path(__file__).parents[2] / "users_networks.py"
EQUAL = load_object(f"{USERS}:EQUAL", "networks")
SHAPE = (1, 32, 32)


@pytest.mark.parametrize("kind", EQUAL, ids=lambda kind: kind.__name__)
def test_macs_are_those_that_torch_counts(kind):
    network = make_plain(kind(), SHAPE).eval()
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counted = count_macs(network, torch.zeros(1, *SHAPE))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert sum(layer.macs for layer in trace_layers(network, SHAPE)) == counted


class Net(nn.Module):
    def __init__(self, factor=1.0, names=("conv", "head")):
        super().__init__()
        self.factor, self.names = factor, names
        setattr(self, names[0], nn.Conv2d(1, 3, 3))
        setattr(self, names[1], nn.Linear(3, 2))

    def forward(self, images):
        conv, head = (getattr(self, name) for name in self.names)
        return head(functional.relu(conv(images)).mean((2, 3)) * self.factor)


def digest(network, shape=(1, 8, 8)):
    return trace_network(network, shape).digest


def test_the_digest_is_that_of_the_computation():
    torch.manual_seed(0)
    one, other = Net(), Net()
    assert digest(one) == digest(other)
    assert digest(one) == digest(one.train())
    assert digest(one) != digest(Net(factor=2.0))
    assert digest(one) != digest(Net(names=("first", "last")))
    assert digest(one) != digest(one, (1, 9, 9))


def test_a_transposed_convolution_uses_each_weight_once_for_each_input_pixel():
    network = nn.Sequential(nn.ConvTranspose2d(2, 6, 4, stride=2, groups=2), nn.Flatten(), nn.LazyLinear(3))
    up = trace_layers(make_plain(network, (2, 5, 7)), (2, 5, 7))[0]
    assert (up.kind, up.in_channels, up.out_channels, up.groups) == ("conv_transpose", 2, 6, 2)
    assert up.macs == 2 * 3 * 16 * 5 * 7
    assert up.calls[0].output_size == (12, 16)


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_dropout_is_not_in_the_graph(kind):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), kind(0.3), nn.Flatten(), nn.LazyLinear(3))
    graph = trace_network(make_plain(network, (1, 6, 6)), (1, 6, 6)).module.graph
    assert not [node for node in graph.nodes if "dropout" in str(node.target)]


def test_a_parameter_in_a_product_that_is_costed_is_not_said_to_cost_nothing():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)
            self.left, self.mix, self.gain = (nn.Parameter(torch.ones(4, 4)) for _ in range(3))

        def forward(self, images):
            maps = torch.einsum("nchw,oc->nohw", self.conv(images), self.mix)
            return self.head((self.left @ maps.flatten(2)).mean(2) + self.gain.mean())

    notes = trace_network(Mixed(), (1, 6, 6)).notes
    assert "products of two tensors, as in attention, are costed but not compressed: 2 of them" in notes
    assert [note for note in notes if "no energy" in note and note.endswith(": gain")]
