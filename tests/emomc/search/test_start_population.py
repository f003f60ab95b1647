"""The first population covers the space and gives more bits to sensitive layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import SearchSpace
from emomc.compression.quantizers import Quantizer
from emomc.hardware.description import load_hardware
from emomc.library.sources import library_graph
from emomc.networks.build import build_network
from emomc.search.start_population import cheapest_allocations, start_population

COLUMNS = ("energy_mj",)


@pytest.fixture(scope="module")
def cost_model(shared_library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer(per_channel=True))
    return CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding="csr")


@pytest.fixture(scope="module")
def space(shared_library):
    layers = tuple(layer.name for layer in shared_library.manifest.compressed_layers)
    return SearchSpace(tuple(sorted(shared_library.percents)), layers)


def noise_of(cost_model, genotype):
    """Sum over layers of the squared error of the weights, relative to their squares."""
    networks, total = cost_model.networks, 0.0
    for name, bits in zip(networks.layers, genotype.bits, strict=True):
        weights = networks.level(genotype.level).weights[name].double()
        error = weights - networks.quantized(genotype.level, name, bits).dequantize()
        total += float((error**2).sum() / (weights**2).sum())
    return total


class TestCheapestAllocations:
    # Whole numbers: ties abound.
    tables = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
        lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.integers(0, 9))] * 2)
    )

    @settings(max_examples=150, deadline=None)
    @given(tables)
    def test_nothing_is_less_noisy_and_cheaper(self, tables):
        noise, cost = (table.astype(float) for table in tables)
        layers = np.arange(len(noise))
        every = np.array(list(itertools.product(range(noise.shape[1]), repeat=len(noise))))
        everything = np.stack([noise[layers, every].sum(axis=1), cost[layers, every].sum(axis=1)], axis=1)
        found = cheapest_allocations(noise, cost)
        totals = np.stack([noise[layers, found].sum(axis=1), cost[layers, found].sum(axis=1)], axis=1)
        for total in totals:
            better = (everything <= total).all(axis=1) & (everything < total).any(axis=1)
            assert not better.any()
        # Both ends are there, in order.
        assert totals[0].tolist() == min(everything.tolist())
        assert totals[-1].tolist() == min(everything.tolist(), key=lambda total: total[::-1])
        assert (np.diff(totals[:, 0]) >= 0).all()

    def test_by_hand(self):
        # The second layer saves more for as much noise, so it gives up bits first.
        noise = np.array([[4.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
        cost = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
        assert cheapest_allocations(noise, cost).tolist() == [[2, 2], [2, 1], [2, 0], [1, 0], [0, 0]]


class TestStartPopulation:
    @pytest.mark.parametrize("size", [4, 5, 17, 40])
    @pytest.mark.parametrize(("least", "most"), [(2, 12), (3, 9), (6, 6)])
    def test_lies_in_the_space_and_holds_the_corners(self, cost_model, space, size, least, most):
        space = SearchSpace(space.levels, space.layers, least, most)
        genes = start_population(cost_model, space, COLUMNS, size, 0)
        assert genes.shape == (size, 1 + len(space.layers))
        assert genes.dtype.kind == "i"
        assert ((space.lower <= genes) & (genes <= space.upper)).all()
        corners = {
            (level, *[bits] * len(space.layers)) for level in (0, len(space.levels) - 1) for bits in (least, most)
        }
        assert corners <= set(map(tuple, genes.tolist()))

    def test_reaches_every_level_and_the_whole_range_of_bits(self, cost_model, space):
        genes = start_population(cost_model, space, COLUMNS, 40, 0)
        assert set(genes[:, 0]) == set(range(len(space.levels)))
        means = genes[:, 1:].mean(axis=1)
        # Independent layers would average close to 7 bits.
        assert np.histogram(means, bins=5, range=(2, 12))[0].min() >= 4

    @pytest.mark.parametrize("columns", [COLUMNS, ("size_kib",), ("energy_mj", "size_kib")])
    def test_is_no_noisier_than_as_many_bits_everywhere_and_mostly_cheaper(self, cost_model, space, columns):
        layers = len(space.layers)
        # As many as there are whole numbers of bits, and the corners.
        genes = start_population(cost_model, space, columns, 4 + 11, 3)[4:]
        bits = np.random.default_rng(3).permutation(np.linspace(2, 12, 11))
        cheaper = 0
        for row, common in zip(genes, bits, strict=True):
            own, equal = (space.decode(np.array([row[0], *rest])) for rest in (row[1:], [common] * layers))
            assert noise_of(cost_model, own) <= noise_of(cost_model, equal) * (1 + 1e-6)
            costs = cost_model.costs([own, equal])
            shares = [costs[column] / cost_model.uncompressed()[column] for column in columns]
            saved = -np.diff(np.mean(shares, axis=0))[0]
            # Between two choices that no price prefers, what as many bits everywhere cost can lie a little lower.
            assert saved >= -0.02
            cheaper += saved > 0
        assert cheaper >= 6

    def test_depends_on_the_seed_alone(self, cost_model, space):
        first, again, other = (start_population(cost_model, space, COLUMNS, 20, seed) for seed in (1, 1, 2))
        assert (first == again).all()
        assert (first != other).any()
