"""The maps of a network: which there are, what makes and reads them, and how long each is needed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from emomc.networks.feature_maps import MapSchedule
from emomc.networks.graph import trace_network
from emomc.networks.zoo import LeNet5, MobileNet, ResNet18

IMAGE = (2, 6, 6)
VALUES = 2 * 6 * 6


def maps_of(network: nn.Module) -> MapSchedule:
    return trace_network(network.eval(), IMAGE).maps


def conv(channels: int = 2, outputs: int = 2, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, stride, padding=1)


class Residual(nn.Module):
    """The image of the second convolution waits for the third, and is added to what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(), conv(), conv()

    def forward(self, images: Tensor) -> Tensor:
        before = self.first(images).relu()
        return (before + self.third(self.second(before).relu())).flatten(1)


class Joined(nn.Module):
    """Two branches of one map, joined along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = conv(2, 2), conv(2, 4), conv(6, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.cat([self.left(images), self.right(images)], 1)).flatten(1)


class Attention(nn.Module):
    """Every position asks every other: two products of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Linear(VALUES // 4, 3 * VALUES // 4)

    def forward(self, images: Tensor) -> Tensor:
        query, key, value = self.three(images.reshape(-1, 4, VALUES // 4)).chunk(3, -1)
        return torch.softmax(query @ key.transpose(1, 2), -1).matmul(value).flatten(1)


def test_each_layer_of_a_chain_reads_what_the_last_one_made() -> None:
    maps = maps_of(nn.Sequential(conv(2, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 8, stride=2), nn.Flatten()))
    assert [one.values for one in maps.maps] == [VALUES, 4 * 36, 8 * 9]
    assert [(step.layer, step.calls, step.reads, step.makes) for step in maps.steps] == [
        (0, (0,), (0,), 1),
        (1, (0,), (1,), 2),
    ]
    assert [(one.made, one.last) for one in maps.maps] == [(-1, 0), (0, 1), (1, 2)]


def test_only_the_image_and_the_answer_come_from_outside_and_go_there() -> None:
    maps = maps_of(nn.Sequential(conv(), conv(), nn.Flatten()))
    assert [one.crosses for one in maps.maps] == [True, False, True]


def test_a_pooling_is_a_move_charged_to_the_layer_before_it() -> None:
    maps = maps_of(nn.Sequential(conv(), nn.MaxPool2d(2), conv(), nn.Flatten()))
    _, pooling, _ = maps.steps
    assert (pooling.layer, pooling.calls, pooling.reads, pooling.makes) == (0, (), (1,), 2)
    assert [one.values for one in maps.maps] == [VALUES, VALUES, 18, 18]


def test_a_map_waits_for_the_addition_that_reads_it() -> None:
    maps = maps_of(Residual())
    addition = maps.steps[-1]
    assert addition.calls == ()
    assert set(addition.reads) == {1, 3}
    assert (maps.maps[1].made, maps.maps[1].last) == (0, 3)
    assert (maps.maps[2].made, maps.maps[2].last) == (1, 2)


def test_branches_read_one_map_and_are_joined_in_one_move() -> None:
    maps = maps_of(Joined())
    left, right, joining, last = maps.steps
    assert left.reads == right.reads == (0,)
    assert maps.maps[0].last == 1
    assert joining.calls == ()
    assert [maps.maps[one].values for one in joining.reads] == [2 * 36, 4 * 36]
    assert maps.maps[joining.makes].values == 6 * 36
    assert last.reads == (joining.makes,)


def test_a_product_has_a_map_in_place_of_weights() -> None:
    graph = trace_network(Attention(), IMAGE)
    products = [step for step in graph.maps.steps if graph.layers[step.layer].kind == "product"]
    assert len(products) == 2
    first, second = products
    # Query, key and value are parts of one map, also where they are turned: no copies.
    assert (first.reads, first.weights) == ((1,), 1)
    assert second.reads == (first.makes,)
    assert second.weights == 1
    assert [step.layer for step in graph.maps.steps] == [0, 1, 2]


def test_a_layer_that_is_called_twice_makes_two_maps() -> None:
    twice = conv()
    maps = maps_of(nn.Sequential(twice, nn.ReLU(), twice, nn.Flatten()))
    assert [(step.layer, step.calls) for step in maps.steps] == [(0, (0,)), (0, (1,))]


@pytest.mark.parametrize(
    ("network", "shape"),
    [(LeNet5(), (1, 32, 32)), (MobileNet(width=0.25), (3, 32, 32)), (ResNet18(width=0.25), (3, 32, 32))],
)
def test_every_schedule_is_in_order(network: nn.Module, shape: tuple[int, int, int]) -> None:
    graph = trace_network(network.eval(), shape)
    maps = graph.maps
    assert maps is not None
    made = {0}
    calls = []
    for number, step in enumerate(maps.steps):
        assert {*step.reads} <= made
        assert step.makes not in made
        made.add(step.makes)
        assert maps.maps[step.makes].made == number
        assert all(maps.maps[one].last >= number for one in step.uses)
        calls += [(step.layer, call) for call in step.calls]
    assert made == {*range(len(maps.maps))}
    # Every call of every layer has its step.
    assert sorted(calls) == [(index, call) for index, one in enumerate(graph.layers) for call in range(len(one.calls))]
    assert [one.outlasts for one in maps.maps].count(True) == 1
