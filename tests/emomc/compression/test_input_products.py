"""How the inputs of a layer vary together: compared to unfolding every image, in blocks, and read from disk."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from emomc.compression import input_products
from emomc.compression.input_products import MOST_INPUTS, input_blocks
from emomc.compression.layer_inputs import measure_inputs
from emomc.library.layer_input_store import LayerInputStore
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.networks.layers import LayerCall, LayerShape, output_first

SETTINGS = settings(max_examples=20, deadline=None)


def measured(network, images):
    graph = FoldedNetwork(trace_network(network, tuple(images.shape[1:])))
    return measure_inputs(graph, images.split(4), covariances=True)


def covariance(patches):
    """Of patches in rows, float64."""
    centred = patches.double() - patches.double().mean(0)
    return centred.T @ centred / len(patches)


@st.composite
def convolutions(draw):
    return nn.Conv2d(
        4,
        8,
        draw(st.sampled_from([1, 3, (3, 2)])),
        stride=draw(st.sampled_from([1, 2])),
        padding=draw(st.sampled_from([0, 1, "valid"])),
        dilation=draw(st.sampled_from([1, 2])),
        groups=draw(st.sampled_from([1, 2, 4])),
        bias=draw(st.booleans()),
    )


@SETTINGS
@given(convolutions(), st.integers(0, 1000))
def test_the_covariance_is_that_of_all_patches(layer, seed):
    images = torch.randn(6, 4, 9, 8, generator=torch.Generator().manual_seed(seed)) + 1
    found = measured(nn.Sequential(layer), images)["0"]
    padding = 0 if layer.padding == "valid" else layer.padding
    patches = functional.unfold(
        images, layer.kernel_size, padding=padding, stride=layer.stride, dilation=layer.dilation
    )
    rows = patches.transpose(1, 2).flatten(0, 1).reshape(-1, layer.groups, patches.shape[1] // layer.groups)
    assert len(found.covariance) == layer.groups
    for group in range(layer.groups):
        torch.testing.assert_close(found.covariance[group].double(), covariance(rows[:, group]), rtol=1e-4, atol=1e-4)
        whole = rows[:, group].double()
        torch.testing.assert_close(
            found.products(centred=False)[group], whole.T @ whole / len(whole), rtol=1e-4, atol=1e-4
        )


def test_padding_to_the_same_size_and_one_dimension():
    network = nn.Sequential(nn.Conv1d(3, 4, 4, padding="same", dilation=2))
    images = torch.randn(6, 3, 11, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(images, (3, 3))
    rows = padded.unfold(2, 7, 1)[..., ::2].permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    torch.testing.assert_close(
        measured(network, images)["0"].covariance[0].double(), covariance(rows), rtol=1e-4, atol=1e-4
    )


def test_a_layer_called_twice_counts_every_position_of_both_calls(monkeypatch, called_twice):
    network = called_twice
    images = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    second = functional.max_pool2d(network.layer(images), 2).detach()
    patches = [functional.unfold(part, 3, padding=1) for part in (images, second)]
    rows = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in patches])
    found = measured(network, images)["layer"].covariance[0].double()
    torch.testing.assert_close(found, covariance(rows), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(input_products, "_TOGETHER", 1)
    one_by_one = measured(network, images)["layer"].covariance[0].double()
    torch.testing.assert_close(one_by_one, found, rtol=1e-5, atol=1e-6)


def test_linear_layers_with_any_number_of_positions():
    images = torch.randn(4, 2, 7, 5, generator=torch.Generator().manual_seed(0))
    found = measured(nn.Sequential(nn.Linear(5, 3)), images)["0"].covariance[0].double()
    torch.testing.assert_close(found, covariance(images.reshape(-1, 5)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_products_give_the_mean_square_of_the_outputs_of_layers_with_inputs_first(groups):
    class InputFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups, dilation=2, bias=False)
            self.matrix = nn.Parameter(torch.randn(6, 5))

        def forward(self, images):
            return self.up(images).flatten(2).transpose(1, 2) @ self.matrix

    torch.manual_seed(0)
    network, images = InputFirst(), torch.randn(5, 4, 6, 7)
    found = measured(network, images)
    with torch.no_grad():
        up = network.up(images)
        outputs = {"up": up.transpose(0, 1).flatten(1), "matrix": (up.flatten(2).transpose(1, 2) @ network.matrix)}
    outputs["matrix"] = outputs["matrix"].flatten(0, 1).T
    for layer in trace_network(network, (4, 6, 7)).layers:
        weight = output_first(network.get_parameter(layer.weight_key).detach(), layer).double()
        products = found[layer.name].products(centred=False)
        rows = weight.reshape(len(products), -1, products.shape[1])
        squares = (rows @ products * rows).sum(2).flatten()
        torch.testing.assert_close(squares.float(), outputs[layer.name].square().mean(1), rtol=1e-4, atol=1e-5)


def shape(channels, kernel, groups=1):
    call = LayerCall((8, 8), (8, 8))
    return LayerShape("layer", "conv", channels, 2 * channels, (call,), kernel_size=kernel, groups=groups)


@pytest.mark.parametrize(
    ("layer", "blocks"),
    [
        (shape(16, (5, 5)), 2),
        (shape(512, (3, 3)), 32),
        (shape(512, (3, 3), groups=512), 512),
        (shape(256, (1, 1)), 1),
        (shape(257, (1, 1)), 257),
        (shape(3, (16, 16)), 3),
        (shape(3, (17, 16)), 0),
    ],
)
def test_blocks_are_whole_channels_within_a_group(layer, blocks):
    assert input_blocks(layer) == blocks
    if blocks:
        assert layer.in_channels // blocks * layer.kernel_size[0] * layer.kernel_size[1] <= MOST_INPUTS


def test_large_layers_are_measured_in_blocks_and_too_large_kernels_not_at_all():
    images = torch.randn(3, 16, 9, 9, generator=torch.Generator().manual_seed(0))
    patches = functional.unfold(images, 5).transpose(1, 2).flatten(0, 1)
    found = measured(nn.Sequential(nn.Conv2d(16, 2, 5)), images)["0"].covariance
    assert found.shape == (2, 200, 200)
    torch.testing.assert_close(found[1].double(), covariance(patches[:, 200:]), rtol=1e-4, atol=1e-4)
    large = measured(nn.Sequential(nn.Conv2d(1, 2, 17)), torch.randn(3, 1, 20, 20))["0"]
    assert large.covariance is None
    with pytest.raises(ValueError, match="expected inputs whose covariance was measured"):
        large.products(centred=True)


def test_from_disk_as_they_were_measured_and_only_so_many_in_memory(tmp_path):
    layers = measured(nn.Sequential(nn.Conv2d(1, 2, 3)), torch.randn(2, 1, 5, 5))
    store = LayerInputStore(tmp_path, {80: "a", 50: "b"}, max_cache_bytes=1)
    for percent in (80, 50):
        store.write(percent, layers)
    for percent in (80, 50, 80):
        assert torch.equal(store.level(percent)["0"].covariance, layers["0"].covariance)
    (tmp_path / "level_050.safetensors").unlink()
    assert store.has(80)
    assert not store.has(50)
