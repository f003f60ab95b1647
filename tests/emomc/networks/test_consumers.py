"""Which layers take a layer's outputs, through whatever lies between them."""

from __future__ import annotations

import torch
from torch import nn

from emomc.networks.build import build_network
from emomc.networks.consumers import find_consumers
from emomc.networks.graph import trace_network


class Branches(nn.Module):
    """Two branches of one convolution that meet, a layer that is called twice, and a product of activations."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 4, 1)
        self.twice = nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, 3)

    def forward(self, images):
        values = self.first(images).relu()
        sums = self.left(values) + self.twice(self.twice(values))
        rows = sums.flatten(2).transpose(1, 2)
        return self.last((rows @ rows.transpose(1, 2) @ rows).mean(1).view(images.size(0), -1))


def test_a_chain_has_one_each():
    graph = trace_network(build_network("lenet5", in_channels=1, num_classes=10, network_args={}), (1, 32, 32))
    names = [layer.name for layer in graph.layers]
    takers = find_consumers(graph)
    assert [sorted(takers[name]) for name in names] == [[name] for name in names[1:]] + [[]]


def test_branches_repeated_calls_and_products():
    graph = trace_network(Branches().eval(), (1, 5, 5))
    takers = find_consumers(graph)
    products = [layer.name for layer in graph.layers if layer.kind == "product"]
    assert takers["first"] == {"left", "twice"}
    # Both operands of the first product, and the second one of the other.
    assert takers["left"] == {*products}
    assert takers["twice"] == {"twice", *products}
    assert takers[products[0]] == {products[1]}
    assert takers[products[1]] == {"last"}
    assert takers["last"] == frozenset()


def test_a_number_of_images_is_no_value():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, images):
            flat = images.flatten(1)
            first = self.one(flat)
            return self.other(torch.zeros(first.size(0), 4) + flat) + first[:, :2]

    takers = find_consumers(trace_network(Sized().eval(), (1, 2, 2)))
    assert takers == {"one": frozenset(), "other": frozenset()}
