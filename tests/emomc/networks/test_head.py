"""New last layers for networks that give another number of scores."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from emomc.common.errors import UserError
from emomc.networks.build import build_network
from emomc.networks.graph import NetworkWarning
from emomc.networks.head import fit_head


def test_the_last_linear_layer_is_replaced_and_named():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1000, bias=False))
    conv = network[0].weight
    with pytest.warns(NetworkWarning, match="the last layer 3 gave 1000 scores: a new one gives 7"):
        fit_head(network, (3, 8, 8), 7)
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
    assert network[0].weight is conv
    assert network[3].bias is None


def test_a_network_that_fits_is_left_alone():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    head = network[1]
    fit_head(network, (3, 2, 2), 5)
    assert network[1] is head


def test_another_last_layer_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 9, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match=r"to give 5 class scores, found an output of shape .*--network_args"):
        fit_head(network, (3, 4, 4), 5)


def test_a_network_of_a_package_gets_a_head_that_fits():
    with pytest.warns(NetworkWarning, match=r"the last layer classifier\.3"):
        network = build_network(
            "torchvision.models:mobilenet_v3_small",
            in_channels=3,
            num_classes=4,
            network_args={"num_classes": 1000},
            input_shape=(3, 32, 32),
        )
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
