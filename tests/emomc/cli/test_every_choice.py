"""Every network, dataflow and coding runs through both commands, with settings too small to learn anything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from emomc.cli import pretrain, search
from emomc.compression.codings import CODING_CHOICES
from emomc.fronts.front_file import read_front
from emomc.library.library import Library
from emomc.networks.build import build_network

ONE_EPOCH = ["--pre_train_epochs", "1", "--pre_prune_epochs", "1", "--pre_prune_step", "60", "--accelerator", "cpu"]
# A search first quantizes every level to every number of bits: few of them, to save time.
TWO_GENERATIONS = ["--population_size", "2", "--number_generations", "2", "--max_bits", "4", "--accelerator", "cpu"]
TWO_GENERATIONS += ["--rounding", "nearest"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of colour images of 32x32 pixels."""
    base = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for name in ("a", "b", "c"):
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(base / part / name / f"{number}.png")
    return base


def make_library(run: Path, *arguments: str) -> Library:
    assert pretrain.main([*arguments, *ONE_EPOCH, "--output", str(run)]) == 0
    library = Library.open(run / "library")
    assert set(library.levels) == {100, 80, 20}
    return library


def search_in(library: Library, *arguments: str) -> dict[str, Any]:
    name = "-".join(argument.strip("-[]") for argument in arguments) or "plain"
    name = name.replace("/", "_").replace(":", "_")
    assert search.main(["--library", str(library.path), "--name", name, *TWO_GENERATIONS, *arguments]) == 0
    return read_front(library.path.parent / "search" / name)


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        ("lenet5", 5),
        pytest.param("mobilenet", 28, marks=pytest.mark.slow),
        pytest.param("vgg16", 14, marks=pytest.mark.slow),
        pytest.param("resnet18", 21, marks=pytest.mark.slow),
    ],
)
def test_every_network_through_both_commands(tmp_path, folder, network, layers):
    narrow = [] if network == "lenet5" else ["--network_args", '{"width": 0.05}']
    library = make_library(tmp_path, "--network", network, "--dataset", f"imagefolder:{folder}", *narrow)
    assert len(library.manifest.layers) == layers
    assert search_in(library)["points"]


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Library:
    return make_library(tmp_path_factory.mktemp("lenet"), "--dataset", f"imagefolder:{folder}")


@pytest.mark.slow
def test_a_search_under_every_dataflow(lenet):
    dense = {}
    for dataflow in ("xy", "icoc", "fxfy", "xfx", "best"):
        front = search_in(lenet, "--dataflow", dataflow)
        assert front["dataflow"] == dataflow
        assert all(0 < point["energy_mj"] <= front["baseline"]["energy_mj"] for point in front["points"])
        dense[dataflow] = front["baseline"]["energy_mj"]
    assert dense.pop("best") == min(dense.values())
    assert len(set(dense.values())) == 4


@pytest.mark.parametrize("coding", CODING_CHOICES)
def test_a_search_in_every_coding(lenet, coding):
    front = search_in(lenet, "--coding", coding, "--objectives", "[accuracy,size]")
    assert front["coding"] == coding
    assert all(point["size_kib"] > 0 for point in front["points"])


@pytest.mark.parametrize("coding", ["csr", *(pytest.param(name, marks=pytest.mark.slow) for name in ("normal", "coo"))])
def test_a_search_in_every_coding_as_the_paper_counts(lenet, coding):
    front = search_in(lenet, "--coding", coding, "--accounting", "paper", "--objectives", "[accuracy,energy,size]")
    assert front["accounting"] == "paper"
    assert front["points"]


@pytest.mark.slow
def test_a_network_of_torchvision_through_both_commands(tmp_path, folder):
    network = ["--network", "torchvision.models:squeezenet1_1"]
    library = make_library(tmp_path, *network, "--dataset", f"imagefolder:{folder}")
    assert len(library.manifest.layers) == 26
    assert search_in(library, *network)["points"]


FOREIGN = """
import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Module):
    def __init__(self, classes, hidden):
        super().__init__()
        self.conv = nn.Conv2d(2, hidden, 3, dilation=2)
        self.head = nn.ModuleDict({"out": nn.Linear(hidden, classes)})

    def forward(self, images):
        return self.head["out"](self.conv(images).relu().amax((2, 3)))

class Data(LightningDataModule):
    num_classes = 4

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def loader(self):
        images = torch.randn(24, 2, 9, 11, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(images, torch.arange(24) % 4), batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = loader
"""


def test_a_foreign_network_on_foreign_data_through_both_commands(tmp_path):
    file = tmp_path / "foreign.py"
    file.write_text(FOREIGN)
    named = ["--network", f"{file}:Net", "--dataset", f"{file}:Data"]
    arguments = ["--network_args", '{"classes": 4, "hidden": 6}', "--batch_size", "8"]
    library = make_library(tmp_path / "run", *named, *arguments)
    assert [layer.name for layer in library.manifest.layers] == ["conv", "head.out"]
    assert library.manifest.input_shape == (2, 9, 11)
    assert search_in(library, *named)["points"]


def test_the_user_s_weights_become_the_dense_level(tmp_path, folder):
    torch.manual_seed(5)
    trained = build_network("lenet5", in_channels=3, num_classes=3)
    checkpoint = {"state_dict": {f"network.{name}": value for name, value in trained.state_dict().items()}, "epoch": 7}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    weights = ["--weights", str(tmp_path / "last.ckpt")]
    library = make_library(tmp_path / "run", "--dataset", f"imagefolder:{folder}", *weights)
    dense = library.load_state(100)
    assert all(torch.equal(dense[name], value) for name, value in trained.state_dict().items())


def test_streamed_images_make_the_same_library(tmp_path, folder):
    dataset = ["--dataset", f"imagefolder:{folder}"]
    one, other = (make_library(tmp_path / cache, *dataset, "--cache", cache) for cache in ("always", "never"))
    for level in one.levels:
        pairs = zip(one.load_state(level).values(), other.load_state(level).values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_excluded_layers_stay_as_they_are(tmp_path, folder):
    library = make_library(tmp_path, "--dataset", f"imagefolder:{folder}", "--exclude_layers", "[linear*]")
    assert [layer.name for layer in library.manifest.compressed_layers] == ["conv1", "conv2", "conv3"]
    assert search_in(library)["points"]
