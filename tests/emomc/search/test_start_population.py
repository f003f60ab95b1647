"""The first population is what promises most before anything is evaluated, and the corners of the space."""

from __future__ import annotations

import numpy as np
import pytest

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype
from emomc.common.pareto import hypervolume
from emomc.compression.quantizers import Quantizer
from emomc.hardware.description import load_hardware
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.search.config import SearchConfig
from emomc.search.error_model import rough_error
from emomc.search.forecast import Forecast
from emomc.search.run import search_space
from emomc.search.start_population import start_population
from emomc.search.state import Search


def make_cost_model(library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    networks = CompressedNetworks(library, library_graph(library, lenet), Quantizer(per_channel=True))
    return CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding="csr")


@pytest.fixture(scope="module")
def cost_model(shared_library):
    return make_cost_model(shared_library)


@pytest.fixture
def make(cost_model, shared_library):
    """Make a search: ``make(**settings)``."""

    def made(**settings):
        config = SearchConfig(**settings)
        return Search(shared_library, config, None, search_space(shared_library, config), cost_model)

    return made


def start(search, size):
    genes = start_population(search, Forecast(search, 100), size)
    return genes, [search.space.decode(row) for row in genes]


def corners(space):
    return [
        Genotype(level, (bits,) * len(space.layers))
        for level in (space.levels[0], space.levels[-1])
        for bits in (space.min_bits, space.max_bits)
    ]


def expected_volume(search, genotypes):
    """The hypervolume that genotypes have if their errors are as expected before anything is evaluated."""
    noise = Forecast(search, 100).noise.of(genotypes)
    level_errors = np.array([1 - search.library.record(one.level).validation_accuracy for one in genotypes])
    costs = search.cost_model.costs(genotypes)
    shares = [costs[name] / search.uncompressed[name] for name in search.cost_columns]
    losses = np.column_stack([rough_error(level_errors, noise), *shares])
    return hypervolume(losses, np.ones(losses.shape[1]))


class TestStartPopulation:
    def test_quantizes_to_all_numbers_of_bits_at_once(self, shared_library, monkeypatch):
        config = SearchConfig(max_bits=5)
        model = make_cost_model(shared_library)
        search = Search(shared_library, config, None, search_space(shared_library, config), model)
        made, quantize = [], CompressedNetworks._quantize

        def recorded(networks, levels, layer, widths):
            made.append(tuple(widths))
            return quantize(networks, levels, layer, widths)

        monkeypatch.setattr(CompressedNetworks, "_quantize", recorded)
        start(search, 20)
        # One after the other takes longer where the rounding is learned.
        assert {*made} == {(2, 3, 4, 5)}

    @pytest.mark.parametrize("size", [4, 5, 17, 40])
    @pytest.mark.parametrize(("least", "most"), [(2, 12), (3, 9), (6, 6)])
    def test_lies_in_the_space_and_holds_the_corners(self, make, size, least, most):
        search = make(min_bits=least, max_bits=most)
        genes, genotypes = start(search, size)
        assert genes.shape == (size, 1 + len(search.space.layers))
        assert genes.dtype.kind == "i"
        assert ((search.space.lower <= genes) & (genes <= search.space.upper)).all()
        assert set(corners(search.space)) <= set(genotypes)

    @pytest.mark.parametrize("size", [12, 40])
    @pytest.mark.parametrize("costs", [("energy",), ("size",), ("energy", "size")])
    def test_promises_more_than_as_many_others(self, make, costs, size):
        search = make(objectives=("accuracy", *costs))
        space, (_, genotypes) = search.space, start(search, size)
        assert len(set(genotypes)) == size
        promised = expected_volume(search, genotypes)
        for seed in range(5):
            random = np.random.default_rng(seed)
            genes = random.integers(space.lower, space.upper, (size, len(space.lower)), endpoint=True)
            assert promised > expected_volume(search, [space.decode(row) for row in genes])
            # Bits that are equal in all layers, spread over all levels.
            levels = random.permutation(np.resize(space.levels, size))
            bits = random.integers(space.min_bits, space.max_bits, size, endpoint=True)
            equal = [
                Genotype(int(level), (int(width),) * len(space.layers))
                for level, width in zip(levels, bits, strict=True)
            ]
            assert promised > expected_volume(search, equal)

    def test_meets_the_constraints_but_for_the_corners(self, make):
        search = make(size_constraint="10%")
        _, genotypes = start(search, 20)
        over = [one for one in search.candidates_of(genotypes) if one.violation > 0]
        assert {one.genotype for one in over} <= set(corners(search.space))
        assert over

    def test_is_drawn_where_nothing_is_left_that_promises_more(self, make):
        one, again, other = (start(make(min_bits=4, max_bits=5, seed=seed), 60)[0] for seed in (1, 1, 2))
        assert (one == again).all()
        assert (one != other).any()
        # Where there is enough, nothing is left to chance.
        assert (start(make(seed=1), 20)[0] == start(make(seed=2), 20)[0]).all()
