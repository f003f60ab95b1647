"""Activations of few bits: their grid, their cost, and that an export is verified with them."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import nn

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.cli.export import main as export
from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.activations import ActivationRounding, round_activations
from emomc.compression.quantizers import Quantizer
from emomc.export.loading import load_compressed
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.packed_file.reader import read_packed
from emomc.packed_file.writer import pack_bytes, write_packed
from emomc.search.config import Finetuning, SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

SETTINGS = settings(max_examples=30, deadline=None)
BITS = st.integers(2, 15)


@SETTINGS
@given(BITS, st.integers(0, 1000), st.booleans())
def test_values_move_by_half_a_step_at_most_and_zero_stays(bits, seed, signed):
    values = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3
    values = torch.cat([values if signed else values.relu(), torch.zeros(1)])
    low, high = float(values.min()), float(values.max())
    rounded = round_activations(values, ActivationGrid.of_range(bits, low, high))
    step = max(-low, high) / (2 ** (bits - 1) - 1 if low < 0 else 2**bits - 1)
    assert float((rounded - values).abs().max()) <= step / 2 * (1 + 1e-3)
    assert rounded[-1] == 0
    assert len(rounded.unique()) <= 2**bits
    torch.testing.assert_close(round_activations(rounded, ActivationGrid.of_range(bits, low, high)), rounded)


def test_values_beyond_the_range_are_clipped():
    values = torch.tensor([-5.0, 0.5, 9.0])
    assert round_activations(values, ActivationGrid.of_range(8, 0.0, 1.0))[[0, 2]].tolist() == [0.0, 1.0]
    assert round_activations(values, ActivationGrid.of_range(8, -1.0, 2.0))[[0, 2]].tolist() == [-2.0, 2.0]


def test_nothing_but_zeros():
    assert round_activations(torch.zeros(3), ActivationGrid.of_range(8, 0.0, 0.0)).tolist() == [0, 0, 0]


def test_gradients_pass_within_the_range():
    values = torch.tensor([-1.0, 0.3, 2.0], requires_grad=True)
    round_activations(values, ActivationGrid.of_range(4, 0.0, 1.0)).sum().backward()
    assert values.grad.tolist() == [0, 1, 0]


def test_a_copy_of_a_network_rounds_for_itself():
    folded = FoldedNetwork(trace_network(nn.Sequential(nn.Linear(1, 1, bias=False)), (1, 1, 1)))
    network = folded.module
    rounding = ActivationRounding(folded)
    given_ = torch.tensor([[[[0.4]]]])
    plain = network(given_)
    rounding.use({"0": ActivationGrid.of_range(2, 0.0, 3.0)})
    other = copy.deepcopy(network)
    rounding.use(None)
    assert torch.equal(network(given_), plain)
    assert float(other(given_).detach()) == 0


@pytest.fixture(scope="module")
def narrow(copy_to, tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow") / "run"
    copy_to(folder)

    def run(bits, name, **more):
        config = SearchConfig(
            coding="best",
            max_bits=5,
            population_size=4,
            number_generations=2,
            activation_bits=bits,
            rounding="nearest",
        )
        return run_search(
            Library.open(folder / "library"),
            config,
            [FrontWriter()],
            run=RunOptions(
                name=name, fabric=Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()]), **more
            ),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
        return {
            16: run(16, "wide"),
            3: run(3, "narrow", finetuning=Finetuning(1, budget=2)),
        }


def test_they_cost_less_and_change_what_is_measured(narrow):
    genotypes = {candidate.genotype: candidate for candidate in narrow[16].candidates}
    shared = [other for other in narrow[3].candidates if other.genotype in genotypes and other.measured]
    assert shared
    pairs = [(genotypes[other.genotype], other) for other in shared]
    assert all(other.costs["energy_mj"] <= wide.costs["energy_mj"] for wide, other in pairs)
    assert any(other.evaluation != wide.evaluation for wide, other in pairs)


def test_the_uncompressed_network_runs_as_it_is(narrow):
    assert narrow[3].baseline_test == narrow[16].baseline_test


def test_an_export_is_checked_with_the_ranges_of_the_front(narrow, tmp_path, capsys):
    search = narrow[3]
    document = json.loads((search.folder / "front.json").read_text())
    for point in document["points"]:
        assert point["input_ranges"].keys() == {layer["name"] for layer in document["layers"]}
        arguments = ["--run", str(search.folder), "--pick", f"index:{point['index']}", "--verify"]
        assert export([*arguments, "--output", str(tmp_path / "point.emomc")]) == 0
        _, size, verdict = capsys.readouterr().out.splitlines()
        assert size.endswith(f"{point['size_bytes']:,} bytes, as the search counted")
        assert "as the front says" in verdict
        grids = {layer.name: layer.inputs for layer in read_packed(tmp_path / "point.emomc").layers}
        assert grids == {name: ActivationGrid.of_range(3, *seen) for name, seen in point["input_ranges"].items()}


def test_the_exact_size_counts_the_grids(narrow):
    for bits, search in narrow.items():
        networks = search.cost_model.networks
        tuned = [candidate.genotype for candidate in search.front if candidate.genotype.finetuned]
        for genotype in [*tuned, Genotype(20, (2, 3, 4, 32, 12)), Genotype(100, (32,) * 5)]:
            packed = pack_candidate(networks, genotype)
            assert {layer.inputs is not None for layer in packed.layers} == {bits == 3 and min(genotype.bits) < 32}
            (size,) = search.cost_model.costs([genotype])["size_bytes"]
            assert size == len(pack_bytes(packed, "best"))


def test_a_file_gives_the_scores_that_were_searched(narrow, tmp_path):
    search = narrow[3]
    for candidate in search.front:
        networks, genotype = search.cost_model.networks, candidate.genotype
        write_packed(tmp_path / "point.emomc", pack_candidate(networks, genotype), "best")
        images = torch.randn(8, *search.library.manifest.input_shape).contiguous(memory_format=torch.channels_last)
        read = load_compressed(tmp_path / "point.emomc").to(memory_format=torch.channels_last)
        assert torch.equal(read(images), networks.load(genotype)(images))


@pytest.mark.parametrize("target", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_an_onnx_file_gives_the_promised_classes_with_narrow_activations(narrow, tmp_path, capsys, target):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    search = narrow[3]
    assert json.loads((search.folder / "front.json").read_text())["integer_biases"]
    arguments = ["--run", str(search.folder), "--pick", "max-accuracy", "--verify", "--format", "onnx"]
    status = export([*arguments, "--target", target, "--output", str(tmp_path / "point.onnx")])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    validation, test = (line for line in printed.out.splitlines() if line.startswith("Read back"))
    assert validation.startswith("Read back: validation accuracy")
    assert test.startswith("Read back: test accuracy")
    assert "as the front says" in validation
    assert "as the front says" in test


def test_ranges_are_needed(shared_library):
    with pytest.raises(ValueError, match="narrow activations"):
        CompressedNetworks(shared_library, library_graph(shared_library), Quantizer(activation_bits=8))


@pytest.mark.parametrize("bits", [1, 17, 0])
def test_bits_out_of_range(bits):
    for given_ in (bits, (bits,), (4, bits, 8)):
        with pytest.raises(UserError, match=rf"expected activation_bits of 2\.\.16, found {bits}"):
            SearchConfig(activation_bits=given_)


def test_several_bits_are_sorted_and_one_is_itself():
    assert SearchConfig(activation_bits=(8, 4, 16)).activation_bits == (4, 8, 16)
    assert SearchConfig(activation_bits=(8,)) == SearchConfig(activation_bits=8)
    with pytest.raises(UserError, match="expected activation_bits that differ, found 4 8 4"):
        SearchConfig(activation_bits=(4, 8, 4))
    with pytest.raises(UserError, match=r"expected activation_bits of 2\.\.16, found none"):
        SearchConfig(activation_bits=())


def test_several_bits_are_refused_where_nothing_depends_on_them():
    sizes = {"objectives": ("accuracy", "size")}
    with pytest.raises(
        UserError, match="energy or latency among the objectives or constraints with several activation"
    ):
        SearchConfig(activation_bits=(4, 8), **sizes)
    assert SearchConfig(activation_bits=(4, 8), energy_constraint="10%", **sizes).layer_activation_bits == (4, 8)
    assert SearchConfig(activation_bits=8, **sizes).layer_activation_bits == ()


def test_layers_without_a_grid_stay_as_they_are_where_they_may():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2))
    folded = FoldedNetwork(trace_network(network, (1, 1, 3)))
    folded.load(folded.fold(network.state_dict()))
    images = torch.randn(4, 1, 1, 3)
    plain = folded.module(images)
    rounding = ActivationRounding(folded, optional=True)
    grid = ActivationGrid.of_range(2, -3.0, 3.0)
    for grids in ({}, None):
        rounding.use(grids)
        assert torch.equal(folded.module(images), plain)
    rounding.use({"0": grid})
    first = folded.module(images)
    assert not torch.equal(first, plain)
    rounding.use({"0": grid, "1": grid})
    assert not torch.equal(folded.module(images), first)
    images.requires_grad_(True)
    rounding.use({"1": grid})
    folded.module(images).sum().backward()
    assert bool((images.grad != 0).all())
