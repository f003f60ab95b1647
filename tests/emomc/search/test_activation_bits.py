"""Bits of each layer's inputs as genes: searched, costed, tuned, shown and exported as they are."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.cost_model import CostModel, uncompressed_genotype
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.cli.export import main as export
from emomc.common.errors import UserError
from emomc.compression.activations import round_activations
from emomc.data.config import DataConfig
from emomc.data.splits import load_some
from emomc.export.loading import load_compressed
from emomc.fronts.front_file import point_activation_bits, read_front
from emomc.hardware.description import load_hardware
from emomc.library.data_sources import build_data
from emomc.library.library import Library
from emomc.packed_file.reader import read_packed
from emomc.packed_file.writer import pack_bytes, write_packed
from emomc.search.config import Finetuning, SearchConfig
from emomc.search.finetuning import finetune
from emomc.search.forecast import Forecast
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.start_population import start_population

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# At 16 bits, inputs are not rounded: a network may have both.
WIDTHS = (3, 8, 16)
INPUTS = st.tuples(*[st.sampled_from(WIDTHS)] * 5)
TUNED = Finetuning(1, budget=2)
MIXED = Genotype(50, (2, 3, 4, 5, 6), activation_bits=(8, 3, 16, 8, 3))


@pytest.fixture(scope="module")
def run(copy_to, tmp_path_factory):
    """Search a copy of the library: ``run(name, bits of inputs, copy=..., finetuning=...)``."""
    folder = tmp_path_factory.mktemp("inputs")

    def search(name, bits, *, copy="run", finetuning=None, **more):
        if not (folder / copy).exists():
            copy_to(folder / copy)
        usual = {"coding": "best", "max_bits": 6, "population_size": 4, "number_generations": 2, "rounding": "nearest"}
        config = SearchConfig(**{**usual, "hardware": "horowitz_45nm", "activation_bits": bits, **more})
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
        options = RunOptions(name=name, fabric=fabric, finetuning=finetuning)
        return run_search(Library.open(folder / copy / "library"), config, [FrontWriter()], options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
        yield search


@pytest.fixture(scope="module")
def searched(run):
    return run("by_layer", WIDTHS, finetuning=TUNED)


@pytest.fixture(scope="module")
def narrow(run):
    """All inputs at 3 bits."""
    return run("three", 3)


@pytest.fixture(scope="module")
def networks(searched):
    return searched.cost_model.networks


def files(search):
    names = ("front.json", "front.csv", "candidates.csv", "config.json", "evaluations.jsonl")
    return {name: (search.folder / name).read_bytes() for name in names}


class TestSearch:
    def test_genotypes_have_them(self, searched):
        used = {candidate.genotype.activation_bits for candidate in searched.candidates}
        assert len(used) > 3
        assert all(len(own) == 5 and {*own} <= {*WIDTHS} for own in used)
        assert any(len({*own}) > 1 for own in used)

    @pytest.mark.slow
    def test_the_same_seed_finds_the_same_front(self, run, searched):
        again = run("by_layer", WIDTHS, copy="again", finetuning=TUNED)
        assert files(again) == files(searched)

    @pytest.mark.slow
    def test_early_rejection_changes_nothing(self, run, searched, monkeypatch):
        monkeypatch.setattr("emomc.search.evolution.Evolution.ranks_by_dominance", property(lambda self: False))
        patient = run("patient", WIDTHS, copy="patient")
        early = [candidate for candidate in searched.candidates if not candidate.genotype.finetuned]
        assert [candidate.genotype for candidate in patient.candidates] == [one.genotype for one in early]
        accuracies = {candidate.genotype: candidate.accuracy for candidate in patient.candidates}
        assert all(accuracies[one.genotype] == one.accuracy for one in early if one.measured)

    def test_other_searches_of_bits_by_layer_take_its_evaluations(self, run, searched):
        again = run("once_more", WIDTHS, seed=1)
        assert again.tally.reused > 0
        known = {candidate.genotype: candidate.evaluation for candidate in searched.candidates if candidate.measured}
        both = [candidate for candidate in again.candidates if candidate.measured and candidate.genotype in known]
        assert both
        assert all(candidate.evaluation == known[candidate.genotype] for candidate in both)

    def test_one_value_is_a_search_without(self, run, narrow):
        again = run("three", (3,), copy="one")
        assert files(again) == files(narrow)
        assert all(candidate.genotype.activation_bits == () for candidate in again.candidates)
        point = read_front(again.folder)["points"][0]
        assert "activation_bits" not in point
        assert json.loads(files(again)["config.json"])["activation_bits"] == 3
        assert b"activation_bits_" not in files(again)["front.csv"]

    def test_starts_at_the_corners_with_what_promises_most(self, searched):
        space = searched.space
        genes = start_population(searched, Forecast(searched, 100), 20)
        genotypes = [space.decode(row) for row in genes]
        low, high = space.levels[0], space.levels[-1]
        corners = [space.uniform(level, *bits) for level in (low, high) for bits in ((2, 3), (6, 16))]
        assert genotypes[:4] == corners
        assert len({*genotypes}) == 20
        assert any(len({*genotype.activation_bits}) > 1 for genotype in genotypes[4:])

    def test_a_layer_that_is_left_out_has_the_most(self, run, monkeypatch):
        monkeypatch.setattr(
            "emomc.library.manifest.Manifest.compressed_layers",
            property(lambda manifest: manifest.stored_layers[:-1]),
        )
        search = run("left_out", (3, 8), copy="left_out", number_generations=1)
        genotype = Genotype(50, (2, 3, 4, 5), activation_bits=(3, 8, 3, 8))
        grids = search.cost_model.networks.grids(genotype)
        assert [grid.bits for grid in grids.values()] == [3, 8, 3, 8, 8]
        assert list(search.cost_model.activation_bits(genotype).values()) == [3, 8, 3, 8, 8]


class TestNetworks:
    def test_each_layer_has_its_own_grid(self, networks):
        grids = networks.grids(MIXED)
        layers = dict(zip(networks.layers, MIXED.activation_bits, strict=True))
        assert {name: grid.bits for name, grid in grids.items()} == {n: b for n, b in layers.items() if b < 16}
        for name, grid in grids.items():
            assert grid is networks.grid(50, name, layers[name])
        assert networks.grids(uncompressed_genotype(networks.library)) is None

    def test_equal_bits_are_those_of_a_search_without(self, networks, narrow):
        images = torch.randn(8, 1, 32, 32).contiguous(memory_format=torch.channels_last)
        own = Genotype(50, MIXED.bits, activation_bits=(3,) * 5)
        scores = networks.load(own)(images)
        assert torch.equal(scores, narrow.cost_model.networks.load(Genotype(50, MIXED.bits))(images))
        assert not torch.equal(scores, networks.load(MIXED)(images))

    def test_a_file_holds_them_and_gives_the_same_scores(self, searched, networks, tmp_path):
        images = torch.randn(8, 1, 32, 32).contiguous(memory_format=torch.channels_last)
        for genotype in (MIXED, searched.space.uniform(20, 3), searched.space.uniform(20, 3, 3)):
            packed = pack_candidate(networks, genotype)
            (size,) = searched.cost_model.costs([genotype])["size_bytes"]
            assert size == len(pack_bytes(packed, "best"))
            write_packed(tmp_path / "one.emomc", packed, "best")
            inputs = [layer.inputs.bits if layer.inputs else 16 for layer in read_packed(tmp_path / "one.emomc").layers]
            assert inputs == list(genotype.activation_bits)
            loaded = load_compressed(tmp_path / "one.emomc").to(memory_format=torch.channels_last)
            assert torch.equal(loaded(images), networks.load(genotype)(images))

    def test_noise_shrinks_with_bits(self, searched, networks):
        noise = Forecast(searched, 100).noise
        for percent in searched.space.levels:
            table = noise.inputs(percent)
            assert table.shape == (5, 3)
            assert bool((np.diff(table, axis=1) < 0).all())
            assert not table[:, -1].any()
        row = noise.of([MIXED])[0]
        expected = [
            networks.input_noise(50, name, bits)
            for name, bits in zip(networks.layers, MIXED.activation_bits, strict=True)
        ]
        assert row.shape == (10,)
        assert row[5:].tolist() == expected

    def test_noise_is_near_what_rounding_does_to_the_images(self, networks):
        images, _ = load_some(build_data(DataConfig(**networks.library.manifest.data)), "train", 256)
        error = round_activations(images, networks.grid(100, "conv1", 3)) - images
        measured = float(error.square().mean() / images.square().mean())
        assert 0.3 < networks.input_noise(100, "conv1", 3) / measured < 3


class TestCosts:
    @SETTINGS
    @given(INPUTS, st.integers(0, 4), st.sampled_from(["horowitz_45nm", "eyeriss_ratio", "emomc_fpga"]))
    def test_energy_grows_with_each(self, networks, inputs, position, hardware):
        model = CostModel(networks, load_hardware(hardware), dataflow="best", coding="best")
        wider = tuple(16 if place == position else bits for place, bits in enumerate(inputs))
        few, more = model.costs([dataclasses.replace(MIXED, activation_bits=bits) for bits in (inputs, wider)])[
            model.columns["energy"]
        ]
        assert few <= more * (1 + 1e-12)

    @pytest.mark.parametrize("accounting", ["exact", "paper"])
    def test_equal_bits_cost_what_they_cost_without(self, networks, narrow, accounting):
        for hardware in ("horowitz_45nm", "emomc_fpga"):
            on = {"hardware": load_hardware(hardware), "dataflow": "xy", "coding": "csr", "accounting": accounting}
            own = CostModel(networks, **on).costs([Genotype(50, MIXED.bits, activation_bits=(3,) * 5)])
            assert own == CostModel(narrow.cost_model.networks, **on).costs([Genotype(50, MIXED.bits)])

    def test_outputs_are_as_wide_as_what_takes_them(self, networks):
        model = CostModel(networks, load_hardware("horowitz_45nm"), dataflow="xy", coding="normal")
        narrow = (3,) * 5
        for position, before in ((1, 0), (2, 1), (4, 3)):
            wider = tuple(8 if place == position else 3 for place in range(5))
            few, more = (
                model.energy_by_layer([dataclasses.replace(MIXED, activation_bits=bits)]).per_layer[0]
                for bits in (narrow, wider)
            )
            assert np.flatnonzero(more > few).tolist() == [before, position]

    def test_many_at_once_cost_what_each_costs_alone(self, searched):
        genotypes = [candidate.genotype for candidate in searched.candidates]
        together = searched.cost_model.costs(genotypes)
        for row, genotype in enumerate(genotypes):
            alone = searched.cost_model.costs([genotype])
            assert {name: column[row] for name, column in together.items()} == {n: c[0] for n, c in alone.items()}

    def test_uncompressed_has_the_most(self, searched, networks):
        model = searched.cost_model
        wide = model.costs([dataclasses.replace(MIXED, activation_bits=(16,) * 5)])["energy_mj"]
        assert searched.uncompressed["energy_mj"] > wide[0]
        assert {*model.activation_bits(uncompressed_genotype(networks.library)).values()} == {16}


class TestFinetuning:
    def test_points_are_tuned_with_theirs(self, searched):
        assert searched.finetuned
        for pair in searched.finetuned:
            assert pair.after.genotype.activation_bits == pair.before.genotype.activation_bits != ()
        records = [json.loads(path.read_text()) for path in searched.files.finetuned.glob("*.json")]
        assert all(len(record["activation_bits"]) == 5 for record in records)

    def test_they_change_what_is_learned(self, networks):
        images = build_data(DataConfig(**networks.library.manifest.data))
        tuned = [
            finetune(networks, dataclasses.replace(MIXED, activation_bits=(bits,) * 5), images, Finetuning(1))
            for bits in (3, 16)
        ]
        assert any(not torch.equal(*(one.layers[name].scale for one in tuned)) for name in networks.layers)

    def test_points_that_differ_in_them_alone_have_weights_of_their_own(self, searched):
        names = [pair.after.genotype.finetuned for pair in searched.finetuned]
        assert len({*names}) == len(names)


class TestFiles:
    def test_the_front_names_them(self, searched):
        front = read_front(searched.folder)
        assert front["settings"]["activation_bits"] == [3, 8, 16]
        assert front["integer_biases"]
        with (searched.folder / "front.csv").open() as file:
            rows = list(csv.DictReader(file))
        for point, row, candidate in zip(front["points"], rows, searched.front, strict=True):
            own = dict(zip(searched.space.layers, candidate.genotype.activation_bits, strict=True))
            assert point_activation_bits(front, point) == own
            assert {name: int(row[f"activation_bits_{name}"]) for name in own} == own

    @pytest.mark.parametrize(
        "wrong", [None, {"conv1": 4}, {"conv1": "3"}, [3], {"conv1": True}, {"conv1": [3]}, "three"]
    )
    def test_a_front_with_others_is_refused(self, searched, wrong):
        front = read_front(searched.folder)
        front["points"][0]["activation_bits"] = wrong
        with pytest.raises(UserError, match="expected activation_bits by layer among 3, 8, 16 in point"):
            point_activation_bits(front, front["points"][0])

    def test_exports_are_what_the_front_promises(self, searched, tmp_path, capsys):
        front = read_front(searched.folder)
        mixed = [point for point in front["points"] if len({*point["activation_bits"].values()}) > 1]
        tuned = [point for point in mixed if point["tuned"]]
        for point in [*mixed[:1], *tuned[:1]]:
            arguments = ["--run", str(searched.folder), "--pick", f"index:{point['index']}", "--verify"]
            assert export([*arguments, "--output", str(tmp_path / "point.emomc")]) == 0
            _, size, verdict = capsys.readouterr().out.splitlines()
            assert size.endswith(f"{point['size_bytes']:,} bytes, as the search counted")
            assert verdict.endswith("as the front says")

    def test_onnx_files_and_c_are_what_the_front_promises(self, searched, tmp_path, capsys):
        pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
        pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
        front = read_front(searched.folder)
        point = max(front["points"], key=lambda point: len({*point["activation_bits"].values()}))
        arguments = ["--run", str(searched.folder), "--pick", f"index:{point['index']}", "--verify"]
        for more in (["onnx"], ["c"]):
            output = ["--output", str(tmp_path / f"point.{more[0]}")]
            status = export([*arguments, "--format", *more, *output])
            printed = capsys.readouterr()
            assert status == 0, printed.err
            verdicts = [line for line in printed.out.splitlines() if line.startswith("Read back")]
            assert verdicts
            assert all("as the front says" in line for line in verdicts)

    def test_a_target_is_refused_for_the_bits_of_the_point(self, searched, tmp_path, capsys):
        front = read_front(searched.folder)
        arguments = ["--run", str(searched.folder), "--format", "onnx", "--target", "tensorrt"]
        points = sorted(front["points"], key=lambda point: 8 in point["activation_bits"].values())
        for point in (points[0], points[-1]):
            status = export([*arguments, "--pick", f"index:{point['index']}", "--output", str(tmp_path / "point.onnx")])
            assert status == (2 if 8 in point["activation_bits"].values() else 0), capsys.readouterr().err
