"""Fine-tuning starts from the point, keeps masks and bits, improves it, resumes and is exported."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from pytorch_lightning.plugins.environments import LightningEnvironment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.finetuned_weights import FinetunedNetwork, finetuned_path, read_finetuned, write_finetuned
from emomc.candidates.genotype import Genotype
from emomc.cli.export import main as export
from emomc.common.errors import UserError
from emomc.compression.quantizers import Quantizer
from emomc.data.config import DataConfig
from emomc.data.splits import load_some
from emomc.library.data_sources import build_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.search.config import Finetuning, SearchConfig
from emomc.search.finetuning import finetune
from emomc.search.options import RunOptions
from emomc.search.run import run_search

LOW = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def networks(shared_library, folder):
    return CompressedNetworks(shared_library, library_graph(shared_library), Quantizer("mse"), finetuned_folder=folder)


@pytest.fixture(scope="module")
def data(shared_library):
    return build_data(DataConfig(**shared_library.manifest.data))


@pytest.fixture(scope="module")
def point(networks):
    return Genotype(50, (LOW,) * len(networks.layers))


@pytest.fixture(scope="module")
def finetuned(networks, data, point):
    return finetune(networks, point, data, Finetuning(2))


def test_without_a_step_nothing_changes(networks, data, point):
    same = finetune(networks, point, data, Finetuning(1, learning_rate=1e-30))
    for name in networks.layers:
        before = networks.quantized(50, name, LOW)
        assert torch.equal(same.layers[name].codes, before.codes)
        torch.testing.assert_close(same.layers[name].scale, before.scale)
    assert same.rest.keys() == networks.level(50).rest.keys()


def test_a_process_alone_waits_for_no_other(networks, data, point, finetuned, monkeypatch):
    """To prepare data, a Trainer makes a group of all processes, of which some may have no point to fine-tune."""

    def prepare(self):
        raise AssertionError("the data were prepared once more")

    monkeypatch.setattr(type(data), "prepare_data", prepare)
    again = finetune(networks, point, data, Finetuning(2))
    for name, layer in finetuned.layers.items():
        assert torch.equal(again.layers[name].codes, layer.codes)


def test_the_dense_network_teaches(networks, data, point, folder):
    def scores(finetuned):
        name = f"taught-{share}"
        path = finetuned_path(folder, name)
        write_finetuned(path, finetuned)
        network = networks.load(dataclasses.replace(point, finetuned=name))
        with torch.no_grad():
            return network(images).log_softmax(1)

    images, _ = load_some(data, "validation", 200)
    with torch.no_grad():
        dense = networks.load(uncompressed_genotype(networks.library))(images).log_softmax(1)
    distances = []
    for share in (0.0, 1.0):
        found = scores(finetune(networks, point, data, Finetuning(3, distillation=share)))
        distances.append(torch.nn.functional.kl_div(found, dense, log_target=True, reduction="batchmean").item())
    # Taught by its answers alone, the network comes closer to them.
    assert distances[1] < distances[0]


def test_masks_and_bits_stay(networks, shared_library, finetuned):
    masks = shared_library.load_masks(50, shared_library.load_state(50))
    for name, layer in finetuned.layers.items():
        assert layer.bits == LOW
        assert layer.codes.dtype is torch.int8
        assert int(layer.codes.abs().max()) <= 2 ** (LOW - 1) - 1
        assert not layer.codes[~masks[name]].any()
        assert bool((layer.scale > 0).all())
    assert any(not torch.equal(finetuned.layers[name].codes, networks.quantized(50, name, LOW).codes) for name in masks)


def test_it_fits_the_training_images_better(networks, data, point, finetuned, folder):
    images, labels = data.load_split("train")
    write_finetuned(folder / "one.safetensors", finetuned)

    def loss(genotype):
        return float(torch.nn.functional.cross_entropy(networks.load(genotype)(images), labels))

    assert loss(dataclasses.replace(point, finetuned="one")) < loss(point)


def test_from_disk_as_it_was(finetuned, tmp_path):
    write_finetuned(tmp_path / "one.safetensors", finetuned)
    again = read_finetuned(tmp_path / "one.safetensors")
    assert isinstance(again, FinetunedNetwork)
    for name, layer in finetuned.layers.items():
        assert torch.equal(again.layers[name].codes, layer.codes)
        assert torch.equal(again.layers[name].scale, layer.scale)
        assert again.layers[name].bits == layer.bits
    assert all(torch.equal(again.rest[name], tensor) for name, tensor in finetuned.rest.items())


def test_a_damaged_file(tmp_path):
    (tmp_path / "one.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read"):
        read_finetuned(tmp_path / "one.safetensors")


@pytest.mark.parametrize("name", ["../elsewhere", "absent"])
def test_names_that_lead_nowhere(networks, point, name):
    with pytest.raises(UserError, match=r"expected (the name of )?fine-tuned weights"):
        networks.load(dataclasses.replace(point, finetuned=name))


@pytest.mark.parametrize(("epochs", "rate"), [(0, 1e-3), (-1, 1e-3), (1, 0.0), (1, 2.0)])
def test_settings_out_of_range(epochs, rate):
    with pytest.raises(UserError, match="expected"):
        Finetuning(epochs, rate)


SMALL = SearchConfig(
    objectives=("accuracy", "size"),
    coding="best",
    max_bits=6,
    population_size=4,
    number_generations=2,
    rounding="nearest",
)


@pytest.fixture(scope="module")
def searched(copy_to, tmp_path_factory):
    """A small search with fine-tuning, its folder, and the search again over the same folder."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    copy_to(folder)
    config = SMALL

    def run():
        return run_search(
            Library.open(folder / "library"),
            config,
            [FrontWriter()],
            run=RunOptions(
                fabric=Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()]), finetuning=Finetuning(1)
            ),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
        first = run()
        files = {file.name: file.read_bytes() for file in first.folder.iterdir() if file.is_file()}
        patch.setattr("emomc.search.image_task.finetune", lambda *_, **__: pytest.fail("fine-tuned again"))
        second = run()
    return first, files, second


def test_a_tuned_point_is_kept_unless_what_it_was_dominates_it(searched):
    search, _, _ = searched
    assert search.finetuned
    front = set(map(id, search.front))
    for pair in search.finetuned:
        cheaper = pair.after.costs["size_bytes"] < pair.before.costs["size_bytes"]
        assert pair.kept == (cheaper or pair.after.accuracy > pair.before.accuracy)
        assert (pair.after in search.candidates) == pair.kept
        better = pair.after.accuracy >= pair.before.accuracy
        if (
            better
            and (cheaper or pair.after.accuracy > pair.before.accuracy)
            and (pair.after.costs["size_bytes"] <= pair.before.costs["size_bytes"])
        ):
            assert id(pair.before) not in front
        assert pair.after.genotype.bits == pair.before.genotype.bits


def test_before_and_after_are_reported(searched):
    search, files, _ = searched
    document = json.loads(files["front.json"])
    assert len(document["tuned"]) == len(search.finetuned)
    for entry, pair in zip(document["tuned"], search.finetuned, strict=True):
        assert entry["before"]["validation_correct"] == pair.before.evaluation.correct
        assert entry["after"]["validation_correct"] == pair.after.evaluation.correct
        assert entry["after"]["size_bytes"] == pair.after.costs["size_bytes"]
        assert entry["before"]["tuned"] is None


def test_no_two_points_share_an_index_whether_they_are_kept_or_not(searched):
    search, _, _ = searched
    every = {*map(id, search.candidates), *(id(pair.after) for pair in search.finetuned)}
    indices = [candidate.index for candidate in search.candidates]
    indices += [pair.after.index for pair in search.finetuned if not pair.kept]
    assert len(indices) == len({*indices}) == len(every)


def test_front_json_says_how_points_were_finetuned(searched):
    _, files, _ = searched
    assert json.loads(files["front.json"])["finetuning"] == {
        "epochs": 1,
        "learning_rate": 1e-3,
        "distillation": 0.5,
        "budget": None,
    }


def test_the_final_metrics_are_those_of_the_front_with_its_finetuned_points(searched):
    search, _, _ = searched
    assert any(pair.kept for pair in search.finetuned)
    logger = TensorBoardFrontLogger()
    logger.on_search_start(search)
    logger.on_search_end(search)
    logger.on_search_teardown(search)
    events = EventAccumulator(str(search.files.tensorboard)).Reload()
    final = search.statistics
    assert final.hypervolume > search.history[-1].hypervolume
    assert events.Scalars("result/hypervolume")[-1].value == pytest.approx(final.hypervolume)
    assert events.Scalars("result/front_size")[-1].value == final.front_size


def test_what_is_tuned_is_not_tuned_again(searched):
    first, files, second = searched
    assert [pair.after.evaluation for pair in second.finetuned] == [pair.after.evaluation for pair in first.finetuned]
    assert (second.folder / "front.json").read_bytes() == files["front.json"]


def test_a_tuned_point_is_exported_as_it_was_evaluated(searched, tmp_path, capsys):
    search, files, _ = searched
    points = json.loads(files["front.json"])["points"]
    position = next(point["index"] for point in points if point["tuned"])
    target = tmp_path / "point.emomc"
    arguments = ["--run", str(search.folder), "--pick", f"index:{position}", "--output", str(target), "--verify"]
    assert export(arguments) == 0
    said = capsys.readouterr().out
    assert "as the search counted" in said
    assert "as the front says" in said


@pytest.fixture(scope="module")
def by_promise(copy_to, tmp_path_factory):
    """The same small search with a budget of three epochs."""
    folder = tmp_path_factory.mktemp("promise") / "run"
    copy_to(folder)
    config = SMALL

    def run(budget):
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
        options = RunOptions(fabric=fabric, finetuning=Finetuning(1, budget=budget))
        return run_search(Library.open(folder / "library"), config, run=options)

    return run


def test_a_budget_is_kept_and_spent_on_what_was_measured(by_promise):
    search = by_promise(3)
    assert len(search.finetuned) == 3
    assert all(point.before.measured for point in search.finetuned)
    assert len({point.before.genotype for point in search.finetuned}) == 3
    assert search.statistics.hypervolume >= search.history[-1].hypervolume


@pytest.mark.slow
def test_a_larger_budget_goes_on_from_there(by_promise, monkeypatch):
    few = by_promise(3)
    made = []
    real = finetune

    def counted(networks, genotype, *rest, **more):
        made.append(genotype)
        return real(networks, genotype, *rest, **more)

    monkeypatch.setattr("emomc.search.image_task.finetune", counted)
    more = by_promise(5)
    assert len(made) == 2
    assert [point.before.genotype for point in more.finetuned[:3]] == [point.before.genotype for point in few.finetuned]


@pytest.mark.parametrize("budget", [0, 1, 10**9])
def test_a_budget_out_of_range(budget):
    with pytest.raises(UserError, match="a budget of fine-tuning of at least the 2 epochs"):
        Finetuning(2, budget=budget)
