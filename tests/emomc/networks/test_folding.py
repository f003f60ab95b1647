"""Folding: the folded network is the network, with and without quantized weights."""

from __future__ import annotations

import copy
import functools
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from emomc.common.user_code import load_object
from emomc.compression.quantization import dequantize, quantize_symmetric
from emomc.networks.build import build_network
from emomc.networks.equivalence import checked_graph, deviation
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network

SHAPE = (2, 12, 12)


class Normed(nn.Module):
    """Every kind of layer with a norm behind it, and one norm that cannot be folded."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.norm = nn.BatchNorm2d(6, eps=1e-2)
        self.plain = nn.BatchNorm2d(6, affine=False)
        self.mix = nn.Conv2d(6, 6, 1)
        self.before = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 8)
        self.fc_norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        x = self.norm(self.depthwise(self.stem(images))).relu()
        x = self.plain(self.mix(x))
        # A norm after a sum has no layer of its own.
        x = self.before(x + x.relu()).mean((2, 3))
        return self.head(self.fc_norm(self.fc(x)).relu())


def trained(network, seed=0):
    """Give a network statistics and norms as training leaves them: none at its start value, gammas of any sign."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.2, 3, generator=generator)
            if module.affine:
                module.weight.data.normal_(generator=generator)
                module.bias.data.normal_(generator=generator)
    return network.eval()


def load(graph, folded, state):
    """A folded network with the given weights."""
    network = FoldedNetwork(graph)
    missing, unexpected = network.module.load_state_dict(state.rest, strict=False)
    assert not unexpected
    assert {key.removesuffix(".weight") for key in missing} == set(state.weights)
    for layer in network.layers:
        network.set_weight(layer, folded[layer.name])
    return network.module


@functools.cache
def graph_of_normed():
    """The same for any weights."""
    return trace_network(Normed().eval(), SHAPE)


def fold(network):
    """The graph of such a network and its folded state."""
    graph = graph_of_normed()
    return graph, FoldedNetwork(graph).fold(network.state_dict())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_folded_logits_are_those_of_the_network(seed):
    torch.manual_seed(seed)
    network = trained(Normed(), seed)
    graph, state = fold(network)
    folded = load(graph, {name: state.full_precision(name) for name in state.weights}, state)
    images = torch.randn(5, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 9])
def test_codes_times_folded_scale_is_dequantize_then_fold(bits, per_channel):
    network = trained(Normed())
    graph, state = fold(network)
    quantized = {
        name: quantize_symmetric(weight, bits, per_channel=per_channel) for name, weight in state.weights.items()
    }
    own = {name: dequantize(tensor.codes, state.scale(name, tensor.scale)) for name, tensor in quantized.items()}

    # The other way round: put the dequantized weights into the network itself, and fold that.
    other = copy.deepcopy(network)
    for name, tensor in quantized.items():
        other.get_parameter(f"{name}.weight").data.copy_(tensor.dequantize())
    _, refolded = fold(other)
    for name, weight in own.items():
        torch.testing.assert_close(weight, refolded.full_precision(name), rtol=1e-6, atol=0)

    images = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(load(graph, own, state)(images), other(images), atol=1e-5, rtol=1e-5)


def norms_in(module):
    return sum(node.target is torch.ops.aten.batch_norm.default for node in module.graph.nodes)


def test_which_norms_go_and_which_stay():
    network = trained(Normed())
    graph, state = fold(network)
    means = {layer: norm.mean for layer, norm in graph.foldable.items()}
    assert means == {
        "stem.0": "stem.1.running_mean",
        "depthwise": "norm.running_mean",
        "mix": "plain.running_mean",
        "fc": "fc_norm.running_mean",
    }
    assert norms_in(FoldedNetwork(graph).module) == 1
    assert {"before.weight", "before.bias", "before.running_mean", "before.running_var"} <= set(state.rest)
    assert not any(key.startswith(("stem.1", "norm.", "plain.", "fc_norm.")) for key in state.rest)


def test_every_folded_layer_has_a_bias_and_the_network_is_untouched():
    network = trained(Normed())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    graph, _ = fold(network)
    folded = FoldedNetwork(graph)
    assert graph.foldable.keys() <= folded.bias_keys.keys()
    assert network.stem[0].bias is None
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_biases_are_given_to_layers_without():
    class NoBias(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, bias=False)
            self.matrix = nn.Parameter(torch.ones(4, 3))
            self.head = nn.Linear(3, 2)

        def forward(self, images):
            return self.head(self.conv(images).mean((2, 3)) @ self.matrix)

    network = NoBias()
    folded = FoldedNetwork(trace_network(network, SHAPE), ["conv", "matrix", "head"])
    # A product of matrices has no place for a bias of its own.
    assert folded.bias_keys == {"conv": "conv.bias", "head": "head.bias"}
    assert folded.module.get_parameter("conv.bias").tolist() == [0, 0, 0, 0]
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(folded.module(images), network(images))
    folded.module.get_parameter("conv.bias").data.fill_(1)
    changed = network.head((network.conv(images).mean((2, 3)) + 1) @ network.matrix)
    torch.testing.assert_close(folded.module(images), changed)


def test_a_bias_takes_the_place_of_none_that_was_given_by_name():
    network = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    graph = trace_network(network, SHAPE)
    (call,) = graph.graph_layers[0].nodes
    call.kwargs = {"bias": None}
    folded = FoldedNetwork(graph, ["0"])
    assert folded.bias_keys == {"0": "0.bias"}
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(folded.module(images), network(images))


class Odd(nn.Module):
    """Tensors that nothing uses, each under two names, and one that the code makes."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 3)
        self.idle = self.idle_again = nn.Parameter(torch.ones(3))
        self.register_buffer("still", torch.ones(3))
        self.register_buffer("still_again", self.still)

    def forward(self, images):
        return self.head(images.mean((2, 3))) + torch.arange(3, device=images.device)


def test_what_nothing_uses_goes():
    folded = FoldedNetwork(trace_network(Odd(), SHAPE))
    assert not any("idle" in name or "still" in name for name in folded.module.state_dict())


def test_tensors_of_a_norm_without_a_module_go_with_it():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)
            self.head = nn.Linear(4, 3)
            self.gamma = nn.Parameter(torch.rand(4) + 1)
            self.beta = self.gamma
            self.register_buffer("mean", torch.rand(4))
            self.register_buffer("variance", self.mean)

        def forward(self, images):
            x = nn.functional.batch_norm(self.conv(images), self.mean, self.variance, self.gamma, self.beta)
            return self.head(x.mean((2, 3)))

    folded = FoldedNetwork(trace_network(Functional().eval(), SHAPE))
    assert {name.split(".")[0] for name in folded.module.state_dict()} == {"conv", "head"}


def test_moved_it_makes_its_tensors_on_the_new_device_and_needs_no_gradients():
    folded = FoldedNetwork(trace_network(Odd(), SHAPE)).to(torch.device("meta"))
    devices = [node.kwargs["device"] for node in folded.module.graph.nodes if node.kwargs.get("device") is not None]
    assert devices
    assert {str(device) for device in devices} == {"meta"}
    assert not any(parameter.requires_grad for parameter in folded.module.parameters())
    assert folded.module(torch.ones(2, *SHAPE, device="meta")).device.type == "meta"


def test_scales_of_layers_without_a_norm_are_left_alone():
    network = trained(Normed())
    _, state = fold(network)
    scale = torch.tensor([0.25])
    assert state.scale("head", scale) is scale
    assert torch.equal(state.full_precision("head"), network.head.weight)
    assert state.scale("depthwise", scale).shape == (6,)


def test_negative_gammas_give_negative_scales():
    network = trained(Normed())
    network.norm.weight.data = torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0, 0.5])
    _, state = fold(network)
    scale = state.scale("depthwise", torch.tensor([0.5]))
    assert scale.sign().tolist() == [1, -1, 0, 1, -1, 1]


@pytest.mark.parametrize("name", [pytest.param("vgg16", marks=pytest.mark.slow), "mobilenet", "resnet18"])
def test_the_networks_lose_all_their_norms(name):
    torch.manual_seed(0)
    network = trained(build_network(name, in_channels=3, num_classes=10, network_args={}))
    shape = (3, 32, 32)
    graph = trace_network(network, shape)
    folded = FoldedNetwork(graph)
    assert norms_in(folded.module) == 0
    folded.load(folded.fold(network.state_dict()))
    images = torch.randn(2, *shape)
    with torch.no_grad():
        assert deviation(folded.module(images), network(images)) < 1e-4


@pytest.mark.parametrize(("name", "last", "notes"), [("Viewed", True, 0), ("Strided", False, 1), ("Volumes", False, 0)])
def test_a_memory_format_that_fails_or_changes_the_scores_is_not_used(name, last, notes):
    network = load_object(f"{Path(__file__).parents[2] / 'users_networks.py'}:{name}", "a network")()
    images = torch.randn(4, 1, 32, 32)
    graph = trace_network(network, (1, 32, 32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checked = checked_graph(graph, network, images)
    assert checked.channels_last == last
    assert ["channels-last" in str(warning.message) for warning in caught] == [True] * notes
    folded = FoldedNetwork(checked).to(torch.device("cpu"))
    folded.load(folded.fold(network.state_dict()))
    given = images.contiguous(memory_format=folded.memory_format)
    torch.testing.assert_close(folded.module(given), network.eval()(images), rtol=1e-4, atol=1e-5)
