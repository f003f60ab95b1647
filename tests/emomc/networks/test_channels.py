"""Channels: what goes together, and smaller networks that compute what the masked ones do."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from emomc.common.user_code import load_object
from emomc.networks.build import build_network
from emomc.networks.channel_slicing import slice_network
from emomc.networks.channels import find_channels
from emomc.networks.equivalence import deviation
from emomc.networks.graph import count_macs, trace_network
from emomc.networks.preparation import make_plain

SHAPE = (3, 32, 32)
USERS = Path(__file__).parents[2] / "users_networks.py"
USERS_NETWORKS = ("Base", "Viewed", "ActivatedNorm", "SharedNorm", "NormAsFunction", "Standardized", "UsedTwice")
USERS_NETWORKS += ("SeveralNames", "Attentive", "Twins", "OwnMatrix")


class Grouped(nn.Module):
    """Groups, a shuffle of channels, parts, a padding of channels, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=4)
        self.grouped = nn.Conv2d(16, 24, 3, groups=4, padding=1)
        self.wider = nn.Conv2d(24, 48, 3, groups=24, padding=1)
        self.second = nn.Conv2d(24, 12, 1)
        self.scale = nn.Parameter(torch.randn(36, 1, 1))
        self.head = nn.Linear(36, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.grouped(self.first(images).relu())
        count, channels, height, width = maps.shape
        maps = maps.view(count, 4, channels // 4, height, width).transpose(1, 2).reshape(count, channels, height, width)
        left, right = self.wider(maps).relu().chunk(2, 1)
        left = left + functional.pad(self.second(right), (0, 0, 0, 0, 12, 0))
        both = torch.cat([left, right[:, 4:16]], 1) * self.scale
        return self.head(both.mean((2, 3)))


class Heads(nn.Module):
    """Attention whose queries, keys and values come from one layer; a norm over the embedding keeps that."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, stride=8)
        self.position = nn.Parameter(torch.randn(1, 16, 24))
        self.norm = nn.LayerNorm(24)
        self.together = nn.Linear(24, 72)
        self.merge = nn.Linear(24, 24)
        self.wide, self.narrow = nn.Linear(24, 40), nn.Linear(40, 24)
        self.head = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.position
        parts = self.together(self.norm(tokens)).reshape(tokens.shape[0], 16, 3, 4, 6).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts.unbind(0))
        tokens = tokens + self.merge(mixed.transpose(1, 2).reshape(tokens.shape[0], 16, 24))
        tokens = tokens + self.narrow(functional.gelu(self.wide(tokens)))
        return self.head(tokens.mean(1))


class ByEmbedding(nn.Module):
    """A sum over channels, which is not the same without some of them; and an operation that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        maps = maps - maps.mean(1, keepdim=True)
        return self.head(torch.cummax(self.second(maps).mean((2, 3)), 1).values)


def prepared(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    return network.eval()


def zoo(name):
    return prepared(build_network(name, in_channels=3, num_classes=10))


def torchvisions(name):
    return prepared(getattr(torchvision.models, name)(num_classes=10))


def sliced(network, shape=SHAPE, share=0.5, kept=()):
    """The whole graph, its groups, what of each space went, and the masked and the smaller network's scores."""
    graph = trace_network(network, shape)
    groups = find_channels(graph, shape, kept)
    generator = np.random.default_rng(0)
    removed = [int(one) for space in groups.spaces for one in generator.permutation(space)[: int(share * len(space))]]
    masks = groups.masks(removed)
    masked = copy.deepcopy(network)
    with torch.no_grad():
        for layer in graph.layers:
            if layer.stored:
                masked.get_parameter(layer.weight_key).mul_(masks[layer.name])
        smaller = slice_network(groups, removed, shape)
        images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        return graph, groups, removed, masks, smaller, (masked(images), smaller.module(images))


NETWORKS = {
    "lenet5": lambda: zoo("lenet5"),
    "mobilenet": lambda: zoo("mobilenet"),
    "resnet18": lambda: zoo("resnet18"),
    "mobilenet_v2": lambda: torchvisions("mobilenet_v2"),
    "densenet": lambda: prepared(torchvision.models.DenseNet(8, (3, 3), 16, num_classes=10)),
    "densenet121": lambda: torchvisions("densenet121"),
    "shufflenet": lambda: torchvisions("shufflenet_v2_x0_5"),
    "squeeze and excitation": lambda: torchvisions("mobilenet_v3_small"),
    "grouped": lambda: prepared(Grouped()),
    "heads": lambda: prepared(Heads()),
}
SLOW = ("densenet121", "shufflenet", "squeeze and excitation")
ALL_FREE = {
    "lenet5",
    "mobilenet",
    "resnet18",
    "mobilenet_v2",
    "densenet",
    "densenet121",
    "shufflenet",
    "squeeze and excitation",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS]
)
def test_the_smaller_network_computes_what_the_masked_one_does(name):
    graph, groups, removed, masks, smaller, (expected, found) = sliced(NETWORKS[name]())
    assert deviation(found, expected) < 1e-4
    assert sum(layer.macs for layer in smaller.layers) == count_macs(smaller.module, torch.zeros(1, *SHAPE))
    assert sum(layer.macs for layer in smaller.layers) < 0.8 * sum(layer.macs for layer in graph.layers)
    assert groups.removed(masks) == frozenset(removed)
    whole = {layer.name: layer for layer in graph.layers}
    for layer in smaller.layers:
        if layer.stored:
            found_shape = groups.smaller(whole[layer.name], groups.kept(removed))
            assert (layer.in_channels, layer.out_channels) == (found_shape.in_channels, found_shape.out_channels)
            assert layer.groups == found_shape.groups
            assert layer.weights == int(masks[layer.name].sum())
    if name in ALL_FREE:
        free = {int(label) for space in groups.spaces for label in space}
        last = [layer.name for layer in graph.layers if layer.stored][-1]
        assert all(free.issuperset(rows.tolist()) for layer, rows in groups.rows.items() if layer != last)


def test_one_channel_of_each_space_is_enough():
    *_, (expected, found) = sliced(NETWORKS["resnet18"](), share=0.99)
    assert deviation(found, expected) < 1e-4


@pytest.mark.parametrize("name", USERS_NETWORKS)
def test_users_networks(name):
    network = make_plain(prepared(load_object(f"{USERS}:{name}", "a network")()), (1, 32, 32))
    *_, (expected, found) = sliced(network, (1, 32, 32))
    assert deviation(found, expected) < 1e-4


def test_heads_go_whole():
    groups = find_channels(trace_network(prepared(Heads()), SHAPE), SHAPE)
    labels = groups.rows["together"].reshape(3, 4, 6)
    assert (labels == labels[:1, :, :1]).all()
    assert len(np.unique(labels)) == 4
    assert (groups.rows["merge"] == 0).all()
    assert len(np.unique(groups.rows["wide"])) == 40


def test_what_combines_channels_or_is_not_known_keeps_them():
    groups = find_channels(trace_network(prepared(ByEmbedding()), SHAPE), SHAPE)
    assert all((rows == 0).all() for rows in groups.rows.values())
    assert groups.spaces == ()


def test_layers_that_are_excluded_keep_their_channels():
    network = zoo("lenet5")
    name = trace_network(network, SHAPE).layers[1].name
    _, _, _, masks, _, _ = sliced(network, kept=(name,))
    assert masks[name].all()
    assert not all(mask.all() for mask in masks.values())


def test_rows_say_what_is_removed():
    _, groups, removed, *_ = sliced(NETWORKS["resnet18"]())
    rows = groups.kept_rows(removed)
    assert groups.removed_by_rows({name: np.array(kept) for name, kept in rows.items()}) == frozenset(removed)
    assert len(rows) < len(groups.rows)
