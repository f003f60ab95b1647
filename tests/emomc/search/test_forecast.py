"""The forecast: what it prefers, with and without constraints, before and after it has learned."""

from __future__ import annotations

import numpy as np
import pytest

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype
from emomc.compression.quantizers import Quantizer
from emomc.hardware.description import load_hardware
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.search.config import SearchConfig
from emomc.search.error_model import rough_error
from emomc.search.forecast import Forecast
from emomc.search.run import search_space
from emomc.search.state import Search

IMAGES = 1000


@pytest.fixture(scope="module")
def cost_model(shared_library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    return CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding="best", accounting="exact")


@pytest.fixture
def make(cost_model, shared_library):
    """Make a search and its forecast: ``make(**settings)``."""

    def made(**settings):
        config = SearchConfig(**settings)
        search = Search(shared_library, config, None, search_space(shared_library, config), cost_model)
        return search, Forecast(search, IMAGES)

    return made


def some(search, count=60, seed=0):
    random = np.random.default_rng(seed)
    genes = random.integers(search.space.lower, search.space.upper, (count, len(search.space.lower)), endpoint=True)
    return list(dict.fromkeys(search.space.decode(row) for row in genes))


def error_of(genotype, layer=1):
    """One layer must have many bits, the others need not."""
    return 0.02 + 0.5 * 2.0 ** -(genotype.bits[layer] - 2) + 0.001 * sum(2.0**-bits for bits in genotype.bits)


@pytest.mark.parametrize("costs", [("energy",), ("size", "energy")])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_names_as_many_as_are_wanted_each_once(make, costs, count):
    search, forecast = make(objectives=("accuracy", *costs))
    genotypes = some(search)
    rows = forecast.most_promising(genotypes, count)
    assert len(rows) == len(set(rows)) == min(count, len(genotypes))
    assert all(0 <= row < len(genotypes) for row in rows)


def test_of_none_is_none(make):
    assert make()[1].most_promising([], 5) == []


def test_knowing_nothing_prefers_what_should_dominate_most_by_noise_and_cost(make):
    search, forecast = make()
    genotypes = some(search)
    level_errors = np.array([1 - search.library.record(one.level).validation_accuracy for one in genotypes])
    right = 1 - rough_error(level_errors, forecast.noise.of(genotypes))
    saved = 1 - search.cost_model.costs(genotypes)["energy_mj"] / search.uncompressed["energy_mj"]
    assert forecast.most_promising(genotypes, 1) == [np.argmax(right * saved)]


def test_learns_which_layer_needs_its_bits(make):
    chosen = {}
    for layer in (1, 2):
        search, forecast = make()
        known = some(search, 80)
        forecast.learn(known, np.array([error_of(genotype, layer) for genotype in known]))
        new = [genotype for genotype in some(search, 400, seed=1) if genotype not in known]
        chosen[layer] = np.mean([new[row].bits for row in forecast.most_promising(new, 10)], axis=0)
    assert chosen[1][1] > chosen[2][1] + 1
    assert chosen[2][2] > chosen[1][2] + 1


def test_does_not_ask_for_what_is_worse_than_what_is_known(make):
    search, forecast = make()
    layers = len(search.space.layers)
    level = search.space.levels[2]
    known = [Genotype(level, (bits,) * layers) for bits in range(2, 13)]
    forecast.learn(known, np.array([0.9, 0.5, 0.2, 0.1, *[0.05] * 7]))
    # More bits are no better, and cost more.
    worse, better = Genotype(level, (11, *[12] * (layers - 1))), Genotype(search.space.levels[0], (6,) * layers)
    assert forecast.most_promising([worse, better], 2) == [1, 0]


def test_those_that_violate_the_constraints_come_last_and_the_worst_of_them_at_the_end(make):
    search, forecast = make(size_constraint="10%")
    genotypes = some(search, 80)
    violations = np.array([candidate.violation for candidate in search.candidates_of(genotypes)])
    rows = forecast.most_promising(genotypes, len(genotypes))
    met = int((violations <= 0).sum())
    assert 5 < met < len(genotypes) - 5
    assert (violations[rows[:met]] <= 0).all()
    assert (np.diff(violations[rows[met:]]) >= 0).all()
    assert (violations[rows[met:]] > 0).all()


def test_nothing_learned_changes_nothing(make):
    search, forecast = make()
    genotypes = some(search)
    before = forecast.most_promising(genotypes, 9)
    forecast.learn([], np.zeros(0))
    assert forecast.most_promising(genotypes, 9) == before


def test_depends_on_what_was_learned_alone(make):
    search, one = make()
    _, other = make()
    known, new = some(search, 50), some(search, 50, seed=1)
    errors = np.array([error_of(genotype) for genotype in known])
    for forecast in (one, other):
        forecast.learn(known[:20], errors[:20])
        forecast.learn(known[20:], errors[20:])
    assert one.most_promising(new, 20) == other.most_promising(new, 20)


def test_the_next_bit_costs_most_where_bits_are_needed_most(make):
    search, forecast = make()
    genotypes = some(search, 200)
    forecast.learn(genotypes, np.array([error_of(genotype) for genotype in genotypes]))
    asked = [Genotype(50, (4, 4, 4, 4, 4)), Genotype(50, (2, 3, 2, 2, 2))]
    first, second = forecast.cost_of_next_bit(asked)
    assert np.argmax(first) == 1
    # Three bits for four: 0.125 of the images; what was learned from lies far apart.
    assert 0.06 < first[1] < 0.25
    assert np.isnan(second).tolist() == [True, False, True, True, True]
    assert (first >= 0).all()
