import json
import os
import shutil

import pytest
import torch

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.cli.export import main
from emomc.common.files import sha256_of_file
from emomc.compression.codings import CODING_CHOICES
from emomc.compression.pruning import prune_by_magnitude
from emomc.export.loading import load_compressed
from emomc.library.library import Library
from emomc.library.manifest import Manifest
from emomc.networks.build import build_network, network_source_sha256
from emomc.networks.graph import trace_network
from emomc.packed_file.layout import VERSION
from emomc.packed_file.reader import read_packed
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

NETWORK_FILE = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, in_channels, num_classes):
        super().__init__(
            nn.Conv2d(in_channels, 4, 5, stride=3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(96, num_classes),
        )
"""


def make_run(folder, spec):
    """Make an untrained library of two levels and a tiny search in it."""
    torch.manual_seed(0)
    network = build_network(spec, in_channels=1, num_classes=10)
    trace = trace_network(network, (1, 32, 32))
    manifest = Manifest(
        network=spec,
        network_args={},
        network_source_sha256=network_source_sha256(spec),
        data={"dataset": "digits"},
        input_shape=(1, 32, 32),
        class_names=tuple("0123456789"),
        mean=(0.3,),
        std=(0.4,),
        layers=trace.layers,
        excluded_layers=(trace.layers[0].name,),
        evaluation_batch_size=100,
        settings={},
    )
    library = Library.create(folder / "library", manifest)
    for percent in (100, 40):
        weights = {layer.name: network.get_parameter(f"{layer.name}.weight") for layer in manifest.compressed_layers}
        masks = prune_by_magnitude(weights, percent)
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for name, mask in masks.items():
            state[f"{name}.weight"] *= mask
        library.add_level(percent, state, masks, validation_accuracy=0.1, epochs=0)
    config = SearchConfig(
        objectives=("accuracy", "energy", "size"), coding="best", population_size=4, number_generations=1, max_bits=6
    )
    own = network if ":" in spec else None
    run_search(library, config, [FrontWriter()], run=RunOptions(name="first", network=own))
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("lenet5"), "lenet5")


def front_of(folder):
    return json.loads((folder / "search" / "first" / "front.json").read_text())


@pytest.fixture
def export(tmp_path, capsys):
    """Run the command; give the exit status, the lines printed, and the error's line."""

    def run(folder, *flags, output="out/network.emomc"):
        status = main(["--run", str(folder), "--output", str(tmp_path / output), *flags])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.strip()

    return run


def test_every_point_has_the_promised_bytes_and_the_promised_accuracy(run_folder, export, tmp_path):
    for point in front_of(run_folder)["points"]:
        flags = ["--pick", f"index:{point['index']}", "--verify"]
        status, lines, error = export(run_folder, *flags)
        assert (status, error) == (0, "")
        assert lines[0].startswith(f"Point {point['index']} was asked for")
        assert lines[1].endswith(f"network.emomc: {point['size_bytes']:,} bytes, as the search counted")
        assert f"({point['test_correct']:,} of {point['test_images']} images), as the front says" in lines[2]
        assert (tmp_path / "out" / "network.emomc").stat().st_size == point["size_bytes"]
    assert load_compressed(tmp_path / "out" / "network.emomc")(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_other_formats_are_verified_too(run_folder, export, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
        pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    status, lines, error = export(run_folder, "--format", format, "--verify", "--pick", "max-accuracy")
    assert (status, error) == (0, "")
    assert lines[1].endswith("bytes")
    assert "as the front says" in lines[2]


def test_a_search_can_be_named_by_its_folder_and_another_coding_asked_for(run_folder, export):
    sizes = {}
    for coding in CODING_CHOICES:
        status, lines, _ = export(run_folder / "search" / "first", "--coding", coding)
        assert status == 0
        sizes[coding] = int(lines[1].split(": ")[1].split()[0].replace(",", ""))
    assert sizes["best"] == min(sizes.values())
    assert len(set(sizes.values())) > 2


def test_broken_promises_are_errors(run_folder, export, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    for key, message in (("size_bytes", "that the search counted"), ("test_correct", "as in the front, found")):
        front = front_of(run_folder)
        front["points"][0][key] += 1
        (copy / "search" / "first" / "front.json").write_text(json.dumps(front))
        status, _, error = export(copy, "--verify", "--pick", f"index:{front['points'][0]['index']}")
        assert status == 2
        assert message in error
        assert "\n" not in error
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_front_of_an_older_packed_file_is_exported_in_the_version_of_today(run_folder, export, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    front = front_of(run_folder)
    size = front["points"][0]["size_bytes"]
    assert front.pop("packed_file_version") == VERSION
    front["points"][0]["size_bytes"] += 300
    (copy / "search" / "first" / "front.json").write_text(json.dumps(front))
    status, lines, _ = export(copy, "--verify", "--pick", f"index:{front['points'][0]['index']}")
    assert status == 0
    assert lines[1].endswith(
        f"{size:,} bytes in version {VERSION} of the packed file; the search counted {size + 300:,} in version 1"
    )
    assert "as the front says" in lines[2]


def test_a_file_that_fails_its_verification_leaves_the_one_before(run_folder, export, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    assert export(copy, "--verify")[0] == 0
    before = (tmp_path / "out" / "network.emomc").read_bytes()
    front = front_of(run_folder)
    for point in front["points"]:
        point["test_correct"] += 1
    (copy / "search" / "first" / "front.json").write_text(json.dumps(front))
    assert export(copy, "--verify", "--coding", "normal")[0] == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["network.emomc"]
    assert (tmp_path / "out" / "network.emomc").read_bytes() == before


def test_a_library_that_was_made_again_is_not_exported(run_folder, export, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    library = Library.open(copy / "library")
    record = library.levels[-1]
    state = library.load_state(record)
    masks = library.load_masks(record, state)
    first = library.manifest.compressed_layers[0].weight_key
    state[first] = state[first] * 1.01
    for percent in library.levels:
        library.add_level(percent, state, masks, validation_accuracy=0.5, epochs=1)
    status, _, error = export(copy)
    assert status == 2
    assert "expected the weights of point" in error
    assert "the library was made again; search it again" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_nothing_but_a_file_is_replaced(run_folder, export, tmp_path, kind):
    (tmp_path / "out").mkdir()
    path, other = tmp_path / "out" / "network.emomc", tmp_path / "other"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
    if kind == "link":
        other.write_text("kept")
    status, _, error = export(run_folder)
    assert (status, error.count("\n")) == (2, 0)
    assert "found a link or a device at" in error
    assert path.is_symlink() or path.is_fifo()
    assert not other.exists() or other.read_text() == "kept"


def test_a_format_that_cannot_be_verified_is_refused_before_the_work(run_folder, export, tmp_path):
    status, _, error = export(run_folder, "--format", "onnx", "--target", "zigzag", "--verify")
    assert status == 2
    assert "expected a target that can be verified, found zigzag" in error
    assert not (tmp_path / "out").exists()


def test_wrong_inputs_are_one_line_and_leave_nothing(run_folder, export, tmp_path, capsys):
    several = shutil.copytree(run_folder, tmp_path / "several")
    shutil.copytree(several / "search" / "first", several / "search" / "second")
    for folder, flags, message in (
        (tmp_path / "nowhere", [], "expected a finished search in"),
        (several, [], "--search with its name, found first, second"),
        (several, ["--search", "third"], "a finished search named third"),
        (run_folder, ["--pick", "cheapest"], "expected a pick such as"),
        (run_folder, ["--pick", "index:99999"], "expected the index of a point"),
        (run_folder, ["--format", "tflite"], "format"),
        (run_folder, ["--coding", "zip"], "coding"),
        (run_folder, ["--network", "lenet6"], "lenet6"),
    ):
        status, lines, error = export(folder, *flags)
        assert (status, lines) == (2, []), flags
        assert error.startswith("emomc-export: error: ")
        assert message in error
        assert "\n" not in error
    assert export(run_folder, output="several")[2] == (
        f"emomc-export: error: expected --output with a file to write, found the folder {several}"
    )
    assert main([]) == 2
    assert "expected --run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert export(several, "--search", "second")[0] == 0


def test_a_users_network_runs_only_when_it_is_named(tmp_path, export):
    file = tmp_path / "small.py"
    file.write_text(NETWORK_FILE)
    spec = f"{file}:Small"
    folder = make_run(tmp_path / "run", spec)
    status, _, error = export(folder)
    assert (status, error) == (2, f"emomc-export: error: expected --network {spec}, whose code made this library, "
                                  "found no --network")  # fmt: skip
    status, lines, error = export(folder, "--network", spec, "--verify")
    assert (status, error) == (0, "")
    assert "as the front says" in lines[2]
    # The file names the class, not where it lay on this machine.
    packed = read_packed(tmp_path / "out" / "network.emomc")
    assert packed.description.network == "small.py:Small"
    assert packed.description.network_source_sha256 == sha256_of_file(file)
    file.write_text(NETWORK_FILE + "\n# edited\n")
    status, _, error = export(folder, "--network", spec)
    assert status == 2
    assert "with another source" in error
