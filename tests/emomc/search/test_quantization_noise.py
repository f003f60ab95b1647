"""The noise of quantized weights: as defined, measured once, and less with more bits."""

from __future__ import annotations

import numpy as np
import pytest

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.compression.quantizers import Quantizer
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.search.quantization_noise import QuantizationNoise


@pytest.fixture(scope="module")
def networks(shared_library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    return CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())


@pytest.fixture(scope="module")
def space(networks):
    return SearchSpace(tuple(sorted(networks.library.levels)), networks.layers, 3, 10)


def test_is_the_squared_error_relative_to_the_squared_weights(networks, space):
    genotypes = [Genotype(space.levels[0], (3, 4, 5, 6, 10)), Genotype(space.levels[-1], (10, 3, 8, 4, 3))]
    expected = []
    for genotype in genotypes:
        for layer, bits in zip(space.layers, genotype.bits, strict=True):
            weights = networks.level(genotype.level).weights[layer].double()
            error = weights - networks.quantized(genotype.level, layer, bits).dequantize()
            expected.append(float((error**2).sum() / (weights**2).sum()))
    noise = QuantizationNoise(networks, space).of(genotypes)
    np.testing.assert_allclose(noise.ravel(), expected, rtol=1e-4)


def test_shrinks_with_bits(networks, space):
    noise = QuantizationNoise(networks, space)
    for percent in space.levels:
        table = noise.level(percent)
        assert table.shape == (len(space.layers), 8)
        assert (np.diff(table, axis=1) < 0).all()


def test_of_no_genotypes_has_a_column_for_each_layer(networks, space):
    assert QuantizationNoise(networks, space).of([]).shape == (0, len(space.layers))


def test_each_level_is_measured_once(networks, space, monkeypatch):
    noise = QuantizationNoise(networks, space)
    first = noise.level(space.levels[1]).copy()
    monkeypatch.setattr(networks, "quantized", None)
    assert (noise.level(space.levels[1]) == first).all()


def test_a_layer_without_weights_has_none(networks, space, monkeypatch):
    layer = space.layers[2]
    monkeypatch.setitem(networks.level(space.levels[0]).weights, layer, networks.level(20).weights[layer] * 0)
    assert (QuantizationNoise(networks, space).level(space.levels[0])[2] == 0).all()
