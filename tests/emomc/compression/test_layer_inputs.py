"""Statistics of layer inputs: compared to unfolding every image, and read from disk."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from emomc.common.errors import UserError
from emomc.compression.layer_inputs import measure_inputs
from emomc.library.layer_input_store import LayerInputStore
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.networks.layers import output_first

SETTINGS = settings(max_examples=20, deadline=None)


def as_graph(network, input_shape):
    return FoldedNetwork(trace_network(network, input_shape))


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 2, 4]))
    return nn.Conv2d(
        4,
        8,
        draw(st.sampled_from([1, 3, (3, 2)])),
        stride=draw(st.sampled_from([1, 2])),
        padding=draw(st.sampled_from([0, 1])),
        dilation=draw(st.sampled_from([1, 2])),
        groups=groups,
        bias=draw(st.booleans()),
    )


@SETTINGS
@given(convolutions(), st.integers(0, 1000))
def test_the_mean_patch_is_the_mean_of_all_patches(layer, seed):
    images = torch.randn(6, 4, 9, 8, generator=torch.Generator().manual_seed(seed))
    found = measure_inputs(as_graph(nn.Sequential(layer), (4, 9, 8)), images.split(4))["0"]
    patches = functional.unfold(
        images.double(), layer.kernel_size, padding=layer.padding, stride=layer.stride, dilation=layer.dilation
    )
    mean = patches.mean((0, 2)).reshape(layer.groups, 4 // layer.groups, *layer.kernel_size)
    torch.testing.assert_close(found.mean_patch, mean, rtol=1e-5, atol=1e-6)
    assert (found.low, found.high) == (float(images.min()), float(images.max()))


def test_a_layer_called_twice_weighs_every_output_position_the_same(called_twice):
    network = called_twice
    images = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    second = functional.max_pool2d(network.layer(images), 2)
    patches = [functional.unfold(part.double(), 3, padding=1) for part in (images, second)]
    mean = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in patches]).mean(0).reshape(1, 2, 3, 3)
    found = measure_inputs(as_graph(network, (2, 8, 8)), [images])["layer"]
    torch.testing.assert_close(found.mean_patch, mean.detach(), rtol=1e-5, atol=1e-6)


def test_linear_layers_with_any_number_of_positions():
    network = nn.Sequential(nn.Linear(5, 3))
    given = torch.randn(4, 2, 7, 5, generator=torch.Generator().manual_seed(0))
    found = measure_inputs(as_graph(network, (2, 7, 5)), [given])["0"]
    torch.testing.assert_close(found.mean_patch, given.double().mean((0, 1, 2))[None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_and_a_product_with_a_matrix(groups):
    """Their weights are stored with the input channels first; the mean output follows from the mean inputs."""

    class InputFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups, bias=False)
            self.matrix = nn.Parameter(torch.randn(6, 5))

        def forward(self, images):
            return self.up(images).flatten(2).transpose(1, 2) @ self.matrix

    torch.manual_seed(0)
    network, images = InputFirst(), torch.randn(5, 4, 6, 7)
    graph = trace_network(network, (4, 6, 7))
    found = measure_inputs(FoldedNetwork(graph), images.split(2))
    with torch.no_grad():
        up = network.up(images)
        outputs = {"up": up.mean((0, 2, 3)), "matrix": (up.flatten(2).transpose(1, 2) @ network.matrix).mean((0, 1))}
    for layer in graph.layers:
        weight = output_first(network.get_parameter(layer.weight_key).detach(), layer).double()
        patch = found[layer.name].mean_patch
        mean = (weight.reshape(len(patch), -1, *weight.shape[1:]) * patch[:, None]).flatten(2).sum(2).flatten()
        torch.testing.assert_close(mean.float(), outputs[layer.name], rtol=1e-4, atol=1e-6)


def test_no_images():
    with pytest.raises(UserError, match="found none"):
        measure_inputs(as_graph(nn.Sequential(nn.Linear(2, 2)), (1, 1, 2)), [])


def test_from_disk_as_it_was_measured_and_only_for_the_same_weights(tmp_path):
    layers = measure_inputs(as_graph(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 5, 5)), [torch.randn(2, 1, 5, 5)])
    LayerInputStore(tmp_path / "made", {80: "a"}).write(80, layers)
    again = LayerInputStore(tmp_path / "made", {80: "a"})
    assert again.digest == "made"
    assert torch.equal(again.level(80)["0"].mean_patch, layers["0"].mean_patch)
    assert (again.level(80)["0"].low, again.level(80)["0"].high) == (layers["0"].low, layers["0"].high)
    other = LayerInputStore(tmp_path / "made", {80: "b"})
    assert not other.has(80)
    with pytest.raises(UserError, match="expected the layer inputs of level 80 %"):
        other.level(80)


def test_a_damaged_file(tmp_path):
    (tmp_path / "level_080.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read"):
        LayerInputStore(tmp_path, {80: "a"}).has(80)
