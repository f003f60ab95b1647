"""Costs of candidates: the formulas under paper accounting, real zeros and bytes under exact accounting."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel, paper_density, uncompressed_genotype
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.common.errors import UserError
from emomc.compression.codings import CODING_CHOICES, CODINGS
from emomc.compression.quantizers import Quantizer
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import energy_breakdown, estimate_energy
from emomc.hardware.size import estimate_size
from emomc.hardware.workload import Workload
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.networks.layers import LayerCall, LayerShape
from emomc.packed_file.writer import write_packed

DATAFLOWS = ("xy", "icoc", "fxfy", "xfx", "best")
GENOTYPES = [
    Genotype(20, (2, 2, 2, 2, 2)),
    Genotype(50, (3, 4, 5, 6, 7)),
    Genotype(80, (12, 2, 12, 2, 12)),
    Genotype(100, (8, 8, 8, 8, 8)),
]


@pytest.fixture(scope="module", params=[Quantizer("absmax"), Quantizer("mse", per_channel=True)])
def networks(request, shared_library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    return CompressedNetworks(shared_library, library_graph(shared_library, lenet), request.param)


def model(networks, *, hardware="emomc_fpga", dataflow="xy", coding="normal", accounting="exact"):
    return CostModel(networks, load_hardware(hardware), dataflow=dataflow, coding=coding, accounting=accounting)


@pytest.mark.parametrize(
    ("accounting", "coding"),
    [("paper", "normal"), ("paper", "csr"), ("paper", "coo"), ("exact", "csr"), ("exact", "best")],
)
def test_many_at_once_cost_what_each_costs_alone(networks, accounting, coding):
    together = model(networks, accounting=accounting, coding=coding).costs(GENOTYPES)
    for row, genotype in enumerate(GENOTYPES):
        alone = model(networks, accounting=accounting, coding=coding).costs([genotype])
        assert {name: column[row] for name, column in together.items()} == {name: c[0] for name, c in alone.items()}


@pytest.mark.parametrize(("dataflow", "coding"), [*itertools.product(DATAFLOWS, ("normal", "csr", "coo"))])
def test_paper_accounting_is_the_formulas_at_the_densities_of_the_masks(networks, dataflow, coding):
    costs = model(networks, dataflow=dataflow, coding=coding, accounting="paper").costs(GENOTYPES)
    layers = networks.library.manifest.layers
    bits = np.array([genotype.bits for genotype in GENOTYPES])
    density = np.array(
        [
            [networks.library.record(genotype.level).remaining[layer.name] / layer.weights for layer in layers]
            for genotype in GENOTYPES
        ]
    )
    hardware = load_hardware("emomc_fpga")
    np.testing.assert_array_equal(
        costs["energy_mj"], estimate_energy(Workload(layers, bits, density), dataflow=dataflow, hardware=hardware)
    )
    np.testing.assert_array_equal(costs["size_kib"], estimate_size(Workload(layers, bits, density), coding=coding))
    assert "size_bytes" not in costs


@pytest.mark.parametrize("coding", CODING_CHOICES)
def test_exact_size_is_the_size_of_the_file(networks, tmp_path, coding):
    costs = model(networks, coding=coding).costs(GENOTYPES)
    for row, genotype in enumerate(GENOTYPES):
        file = tmp_path / f"{row}.emomc"
        write_packed(file, pack_candidate(networks, genotype), coding)
        assert costs["size_bytes"][row] == file.stat().st_size
        assert costs["size_kib"][row] == file.stat().st_size / 1024


def test_best_coding_is_nowhere_longer_than_another(networks):
    best = model(networks, coding="best").costs(GENOTYPES)["size_bytes"]
    for coding in CODINGS:
        assert (best <= model(networks, coding=coding).costs(GENOTYPES)["size_bytes"]).all()


def test_best_dataflow_is_the_cheapest(networks):
    energies = [model(networks, dataflow=dataflow).costs(GENOTYPES)["energy_mj"] for dataflow in DATAFLOWS]
    np.testing.assert_array_equal(energies[-1], np.min(energies[:-1], axis=0))


def test_exact_density_counts_zeros_after_quantization(networks):
    costs = model(networks)
    for genotype in GENOTYPES:
        network = networks.load(genotype)
        for layer in networks.library.manifest.layers:
            weight = network.get_parameter(f"{layer.name}.weight")
            assert costs.density(genotype)[layer.name] == int(weight.count_nonzero()) / layer.weights
    # At 2 bits most remaining weights round to zero if the largest weight sets the step.
    masks = dict(zip(networks.layers, paper_density(networks.library, 20), strict=True))
    coarse = costs.density(GENOTYPES[0])
    assert all(coarse[name] <= masks[name] for name in masks)
    if networks.quantizer.method == "absmax":
        assert sum(coarse.values()) < 0.6 * sum(masks.values())


def test_parts_and_layers_sum_to_the_whole(networks):
    for accounting in ("paper", "exact"):
        costs = model(networks, accounting=accounting, coding="csr")
        whole = costs.costs(GENOTYPES)
        breakdown = costs.energy_by_layer(GENOTYPES)
        parts = sum(getattr(breakdown, part).sum(axis=1) for part in ("mac", "input", "weight", "output", "dram"))
        np.testing.assert_allclose(parts, whole["energy_mj"])
        stored = costs.bytes_by_layer(GENOTYPES)
        assert stored.shape == (len(GENOTYPES), len(costs.layers))
        if accounting == "paper":
            np.testing.assert_allclose(stored.sum(axis=1) / 1024, whole["size_kib"])
        else:
            # Header, names and biases come on top.
            assert (stored.sum(axis=1) < whole["size_bytes"]).all()


def test_uncompressed_is_the_dense_network_at_32_bits(networks):
    for accounting, coding in itertools.product(("paper", "exact"), ("normal", "csr", "coo")):
        costs = model(networks, accounting=accounting, coding=coding)
        uncompressed = costs.uncompressed()
        layers = costs.layers
        shape = (1, len(layers))
        energy = estimate_energy(
            Workload(layers, np.full(shape, 32), np.ones(shape)), dataflow="xy", hardware=costs.hardware
        )
        assert uncompressed["energy_mj"] == pytest.approx(float(energy[0]))
        # The dense baseline is stored without indices, which would make every ratio look better.
        weights = sum(layer.weights for layer in layers)
        assert weights * 4 / 1024 <= uncompressed["size_kib"] <= weights * 4 / 1024 * 1.05
        compressed = costs.costs(GENOTYPES)
        assert all((compressed[name] < uncompressed[name]).all() for name in ("energy_mj", "size_kib"))
    genotype = uncompressed_genotype(networks.library)
    assert genotype == Genotype(100, (32,) * 5)


def test_more_bits_and_more_weights_cost_more(networks):
    for accounting in ("paper", "exact"):
        costs = model(networks, accounting=accounting)
        by_bits = costs.costs([Genotype(50, (bits,) * 5) for bits in range(2, 13)])
        by_level = costs.costs([Genotype(level, (8,) * 5) for level in (20, 50, 80, 100)])
        assert (np.diff(by_bits["size_kib"]) > 0).all()
        assert (np.diff(by_bits["energy_mj"]) > 0).all()
        assert (np.diff(by_level["energy_mj"]) > 0).all()


def test_relative_hardware_never_prints_joules(networks):
    costs = model(networks, hardware="eyeriss_ratio")
    assert costs.columns["energy"] == "energy_mac16"
    columns = costs.costs(GENOTYPES)
    assert "energy_mac16" in columns
    assert not any("mj" in name for name in columns)


@pytest.mark.parametrize("hardware", ["emomc_fpga", "eyeriss_ratio", "horowitz_45nm", "accelergy_eyeriss_32nm"])
def test_every_objective_has_its_column(networks, hardware):
    costs = model(networks, hardware=hardware)
    columns = costs.costs(GENOTYPES)
    assert set(costs.columns) == {"energy", "size", "latency"}
    for name in costs.columns.values():
        assert columns[name].shape == (len(GENOTYPES),)
        assert np.isfinite(columns[name]).all()
        assert (columns[name] > 0).all()
        assert costs.uncompressed()[name] > 0


def test_layers_that_stay_uncompressed_are_paid_for(library):
    manifest = library.manifest
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    library.manifest = dataclasses.replace(manifest, excluded_layers=("linear2",))
    networks = CompressedNetworks(library, library_graph(library, lenet), Quantizer())
    costs = model(networks, accounting="paper")
    linear = next(layer for layer in manifest.layers if layer.name == "linear2")
    for some in (costs, model(networks, coding="csr")):
        stored = some.bytes_by_layer([Genotype(20, (2, 2, 2, 2))])[0][-1]
        assert stored == linear.weights * 4
    with pytest.raises(ValueError, match=r"shape|broadcast|length"):
        costs.costs([Genotype(20, (2, 2, 2, 2, 2))])


@pytest.mark.parametrize(("activation_bits", "width"), [(None, 16), (8, 8)])
def test_a_product_of_activations_moves_as_many_bits_as_they_have(library, activation_bits, width):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    networks = CompressedNetworks(library, library_graph(library, lenet), Quantizer())
    networks.quantizer = Quantizer(activation_bits=activation_bits)
    call = LayerCall((1, 1), (1, 1))
    product = LayerShape("scores", "product", 7, 5, (call,), stored=False)
    library.manifest = dataclasses.replace(library.manifest, layers=(*library.manifest.layers, product))
    hardware = load_hardware("eyeriss_ratio")
    costs = model(networks, hardware="eyeriss_ratio")
    assert costs.bits(GENOTYPES[0])["scores"] == width
    alone = Workload([product], [[width]], [[1.0]], coded_bits=[[35 * width]], activation_bits=activation_bits)
    expected = energy_breakdown(alone, dataflow="xy", hardware=hardware).per_layer
    assert costs.energy_by_layer(GENOTYPES[:1]).per_layer[0, -1] == pytest.approx(expected.item())
    assert costs.bytes_by_layer(GENOTYPES[:1])[0, -1] == 0


def test_a_report_is_of_the_same_bytes_and_energy(networks):
    costs = model(networks, coding="csr")
    rows = costs.report(GENOTYPES[1]).rows
    assert [row.stored_bytes for row in rows] == costs.bytes_by_layer(GENOTYPES[1:2])[0].tolist()
    assert [row.energy for row in rows] == pytest.approx(costs.energy_by_layer(GENOTYPES[1:2]).per_layer[0].tolist())
    assert [row.density for row in rows] == list(costs.density(GENOTYPES[1]).values())


@pytest.mark.parametrize("coding", ["bitmap", "best"])
def test_codings_without_a_formula(networks, coding):
    with pytest.raises(UserError, match=f"normal, csr, coo with paper accounting, found '{coding}'"):
        model(networks, coding=coding, accounting="paper")
