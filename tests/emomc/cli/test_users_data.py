"""Images that a user's own code gives, through the commands: functions and LightningDataModules of many forms."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

PRETRAIN = (
    *("--accelerator", "cpu", "--pre_train_epochs", 4, "--pre_prune_epochs", 1, "--pre_prune_step", 60),
    *("--batch_size", 8, "--output", "run"),
)
SEARCH = (
    *(
        "--population_size",
        2,
        "--number_generations",
        1,
        "--max_bits",
        4,
        "--rounding",
        "nearest",
        "--finetune_epochs",
        1,
        "--accelerator",
        "cpu",
    ),
    *("--quiet", "true", "--name", "s"),
)

CODE = """
import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset


class Net(nn.Sequential):
    def __init__(self, in_channels, num_classes):
        super().__init__(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, num_classes)
        )


class Bars(Dataset):
    '''Images with a bright row or a bright column.'''

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def pixels(self, index):
        random = np.random.default_rng([self.seed, index])
        pixels = random.integers(0, 100, (8, 8), dtype=np.uint8)
        if index % 2:
            pixels[3] = 250
        else:
            pixels[:, 3] = 250
        return pixels

    def __getitem__(self, index):
        return {"image": Image.fromarray(self.pixels(index)), "label": index % 2}


def bars():
    return {"train": Bars(64, 0), "validation": Bars(32, 1), "test": Bars(32, 2), "class_names": ["column", "row"]}


class Tensors(Bars):
    def __getitem__(self, index):
        image = torch.from_numpy(self.pixels(index)).to(torch.float16)[None]
        return {"image": image, "label": torch.tensor(index % 2, dtype=torch.int32)}


class Module(LightningDataModule):
    num_classes = 2
    train_loader_length = True

    def train_dataloader(self):
        return DataLoader(Tensors(64, 0), batch_size=16)

    def val_dataloader(self):
        return DataLoader(Tensors(32, 1), batch_size=16)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "image": batch["image"].float() / 255}

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {"image": (batch["image"] - 0.25) / 0.25, "label": batch["label"]}


class Endless(IterableDataset):
    def __iter__(self):
        return iter(Tensors(64, 0)[index] for index in range(64))


class Lengthless(Module):
    def train_dataloader(self):
        return DataLoader(Endless(), batch_size=16)


class NoValidation(Module):
    val_dataloader = LightningDataModule.val_dataloader
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
    file = tmp_path / "my code.py"
    file.write_text(CODE)
    return file


def front_of(folder: Path) -> dict:
    return json.loads((folder / "run" / "search" / "s" / "front.json").read_text())


@pytest.mark.parametrize("dataset", ["bars", "Module"])
def test_a_users_data_go_through_training_and_search(run, code, dataset):
    named = ("--network", f"{code}:Net", "--dataset", f"{code}:{dataset}")
    made = run("pretrain", *PRETRAIN, *named)
    assert made.status == 0, made
    # The command that the first one names, for a shell.
    command, *words = shlex.split(made.out.splitlines()[-1].removeprefix("Next: "))
    assert command == "emomc-search"
    searched = run("search", *words, *SEARCH)
    assert searched.status == 0, searched
    front = front_of(Path())
    assert front["baseline"]["validation_images"] == 32
    assert front["baseline"]["validation_accuracy"] > 0.9
    assert (front["baseline"]["test_accuracy"] is not None) == (dataset == "bars")
    classes = ["column", "row"] if dataset == "bars" else ["0", "1"]
    assert json.loads(Path("run/library/library.json").read_text())["class_names"] == classes


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("Lengthless", "expected a train_dataloader of Lengthless with a length, .* found none"),
        ("NoValidation", "expected validation batches of NoValidation, found an error: .*val_dataloader"),
        ("Bars", "expected .*my code.py:Bars to be a LightningDataModule, or a function .*, found 'Bars'"),
    ],
)
def test_what_cannot_be_trained_on_is_said_before(refused, code, dataset, words):
    refused("pretrain", *PRETRAIN, "--network", f"{code}:Net", "--dataset", f"{code}:{dataset}", words=words)


def photos(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for label, name in enumerate(("a", "b")):
            for number in range(count):
                pixels = random.integers(0, 100, (8, 8), dtype=np.uint8) + np.uint8(100 * label)
                path = folder / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return folder


def test_images_are_found_again_from_elsewhere(run, refused, code, tmp_path, monkeypatch):
    network = ("--network", f"{code}:Net")
    photos(Path("photos"))
    assert run("pretrain", *PRETRAIN, *network, "--dataset", "imagefolder:photos").status == 0
    # Other images of the same name must not be taken for them.
    elsewhere = tmp_path / "elsewhere"
    photos(elsewhere / "photos")
    (elsewhere / "photos" / "test" / "a" / "0.png").unlink()
    home = Path.cwd()
    monkeypatch.chdir(elsewhere)
    ran = run("search", "--library", home / "run" / "library", *SEARCH, *network)
    assert (ran.status, ran.err) == (0, "")
    assert front_of(home)["dataset"] == "imagefolder:photos"
    # The whole project has moved.
    monkeypatch.chdir(tmp_path)
    shutil.move(home, tmp_path / "moved")
    ran = run("search", "--library", "moved/run/library", *SEARCH, *network, "--overwrite", "true")
    assert (ran.status, ran.err) == (0, "")
    # The images alone have moved.
    shutil.move(tmp_path / "moved" / "photos", tmp_path / "pictures")
    again = ("search", "--library", "moved/run/library", *SEARCH, *network, "--overwrite", "true")
    refused(*again, words=r"in photos or .*/moved/photos, found no such folder: name .* with --dataset imagefolder:DIR")
    ran = run(*again, "--dataset", "imagefolder:pictures")
    assert (ran.status, ran.err) == (0, "")
