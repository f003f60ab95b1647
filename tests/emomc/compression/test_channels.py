"""Which channels go: the least important, as many as a level asks for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emomc.compression.channels import IMPORTANCES, ChannelPruning, Values, remaining_channels
from emomc.networks.build import build_network
from emomc.networks.channels import find_channels
from emomc.networks.graph import trace_network

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("resnet18", in_channels=3, num_classes=10, network_args={"width": 0.25})


@pytest.fixture(scope="module")
def groups(network):
    return find_channels(trace_network(network, SHAPE), SHAPE)


@pytest.fixture(scope="module")
def values(network):
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    gradients = {name: torch.randn(value.shape, generator=generator) for name, value in parameters.items()}
    with torch.no_grad():
        for name, value in parameters.items():
            if value.ndim == 1 and name.endswith("weight"):
                value.copy_(torch.rand(value.shape, generator=generator))
    return Values(parameters, gradients)


def remaining(groups, removed):
    kept = groups.kept(removed)
    return [groups.smaller(layer, kept) for layer in groups.graph.layers]


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("percent", [80, 30, 5])
@pytest.mark.parametrize("multiple", [1, 4])
def test_at_most_the_weights_of_the_level_remain(groups, values, importance, percent, multiple):
    scores = IMPORTANCES[importance](groups, values)
    pruning = ChannelPruning(groups, importance, multiple)
    layers = groups.graph.layers
    removed = remaining_channels(pruning, layers, scores, percent, ())
    smaller = remaining(groups, removed)
    share = 100 * sum(layer.weights for layer in smaller) / sum(layer.weights for layer in layers)
    assert share <= percent or all(layer.out_channels <= multiple for layer in smaller[:-1])
    assert share > (0.8 * percent if multiple == 1 else 0.4 * percent)
    assert all(layer.out_channels % multiple == 0 for layer in smaller[:-1])
    kept = groups.kept(removed)
    for space in groups.spaces:
        assert scores[space[kept[space]]].min() >= scores[space[~kept[space]]].max(initial=-np.inf)


def test_what_went_before_stays_away(groups, values):
    first, second = (IMPORTANCES[name](groups, values) for name in ("magnitude", "taylor"))
    pruning = ChannelPruning(groups)
    before = remaining_channels(pruning, groups.graph.layers, first, 60, ())
    after = remaining_channels(pruning, groups.graph.layers, second, 30, before)
    assert before < after


def test_importance_is_that_of_all_layers_that_go_together(groups, values):
    scores = {name: of(groups, values) for name, of in IMPORTANCES.items()}
    label = int(groups.spaces[0][0])
    rows = {name: np.flatnonzero(labels == label) for name, labels in groups.rows.items()}
    weights = {name: values.parameters[groups.graph.layer(name).weight_key] for name in rows}
    assert sum(map(len, rows.values())) > 1
    expected = sum(float(weights[name][own].square().sum()) for name, own in rows.items())
    assert scores["magnitude"][label] == pytest.approx(expected)
    products = sum(
        float((weights[name] * values.gradients[groups.graph.layer(name).weight_key])[own].sum())
        for name, own in rows.items()
    )
    assert scores["taylor"][label] == pytest.approx(products**2)
    scales = [
        values.parameters[name][labels.numpy() == label]
        for name, labels in groups.parameters.items()
        if name.endswith("weight") and name in values.parameters
    ]
    assert scores["batchnorm"][label] == pytest.approx(sum(float(one.square().sum()) for one in scales))
