"""The user's own networks and data that do not fit, and folders of images that hold the wrong things."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CPU = ("--accelerator", "cpu")
TINY = (*CPU, "--pre_train_epochs", 1, "--pre_prune_epochs", 1, "--pre_prune_step", 60)

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.flat = nn.Flatten()
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, images):
        scores = self.linear(self.flat(images))
        return {returned}
"""

RETURNED = {
    "several of names": ("{'scores': scores, 'maps': images}", "class scores, found scores, maps: .*--network_output"),
    "no tensors": ("'scores', 'images'", "one tensor of class scores, found 2 in order"),
    "nothing": ("None", "one tensor of class scores, found a NoneType"),
    "too few scores": ("scores[:, :7]", r"10 class scores, found an output of shape \(7,\)"),
    "one score": ("scores.sum()", "10 class scores"),
    "a map of scores": ("scores[:, :, None, None]", "10 class scores"),
    "whole numbers": ("scores.argmax(1, keepdim=True).expand(-1, 10)", "finite class scores .*int64"),
    "NaN": ("scores / 0 * 0", "finite class scores"),
    "infinities": ("scores.exp() / 0", "finite class scores"),
    "an error": ("images.wrong", "has no attribute 'wrong'"),
}


@pytest.mark.parametrize("case", RETURNED)
def test_network_that_returns(refused, tmp_path, case):
    returned, words = RETURNED[case]
    (tmp_path / "net.py").write_text(NETWORK.replace("{returned}", returned))
    refused("pretrain", *TINY, "--network", f"{tmp_path}/net.py:Net", words=words)


CODE = {
    "an error in its file": ("raise OSError('no more')", "running it fails: no more"),
    "no Python": ("class Net(:\n", "running it fails"),
    "no such class": ("class Other: pass", "named Net"),
    "no module": ("class Net: pass", "torch.nn.Module class .*Net"),
    "a number": ("Net = 3", "int"),
    "an error in its constructor": (
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self): raise KeyError('lost')",
        "lost",
    ),
    "no layers": ("from torch import nn\nclass Net(nn.Flatten): pass", "convolution or linear layers, found none"),
    "an end of its own": ("import sys; sys.exit(3)", "running it"),
}


@pytest.mark.parametrize("case", CODE)
def test_network_with(refused, tmp_path, case):
    text, words = CODE[case]
    (tmp_path / "net.py").write_text(text)
    refused("pretrain", *TINY, "--network", f"{tmp_path}/net.py:Net", words=words)


DATA = """
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

def loader(images, labels):
    return DataLoader(TensorDataset(images, labels), batch_size=8)

class Data(LightningDataModule):
    num_classes = {classes}

    def train_dataloader(self):
        images, labels = torch.rand(24, 1, 32, 32), torch.arange(24) % 4
        {train}
        return loader(images, labels)

    def val_dataloader(self):
        images, labels = torch.rand(24, 1, 32, 32), torch.arange(24) % 4
        {validation}
        return loader(images, labels)

    test_dataloader = val_dataloader
"""

BATCHES = {
    "no classes": (None, "", "", "num_classes.*None"),
    "one class": (1, "", "", "num_classes.*1"),
    "classes in words": ("'four'", "", "", "num_classes.*four"),
    "labels too high": (4, "labels = labels + 1", "", r"train labels in 0\.\.3, found 4"),
    "labels too high in validation": (4, "", "labels = labels + 1", r"validation labels in 0\.\.3, found 4"),
    "negative labels": (4, "labels = labels - 1", "", r"train labels in 0\.\.3, found -1"),
    "labels as numbers": (4, "labels = labels.float()", "", "train labels .*whole numbers, found torch.float32"),
    "labels of no image": (4, "return DataLoader(images, batch_size=8)", "", "train batches of two tensors"),
    "images as whole numbers": (4, "images = images.long()", "", "train images as a float tensor"),
    "flat images": (4, "", "images = images.flatten(1)", "validation images as a float tensor"),
    "images of another size": (4, "images = images[:, :, :28, :28]", "", "train images of shape"),
    "images of NaN": (4, "images[3] = float('nan')", "", "finite .*(images|scores)"),
    "images of NaN in validation": (4, "", "images[3] = float('nan')", "finite .*(images|scores)"),
    "no training images": (4, "images, labels = images[:0], labels[:0]", "", "at least one train image"),
    "no validation images": (4, "", "images, labels = images[:0], labels[:0]", "at least one validation image"),
    "an error": (4, "raise OSError('disk gone')", "", "disk gone"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_data_with(refused, tmp_path, case):
    classes, train, validation, words = BATCHES[case]
    text = DATA.replace("{classes}", str(classes)).replace("{train}", train).replace("{validation}", validation)
    (tmp_path / "data.py").write_text(text)
    refused("pretrain", *TINY, "--dataset", f"{tmp_path}/data.py:Data", words=words)


def save(path: Path, shape: tuple[int, ...] = (32, 32, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(path)


def images(folder: Path, train: int = 4) -> Path:
    for part, count in (("train", train), ("test", 3)):
        for name in ("a", "b"):
            for number in range(count):
                save(folder / part / name / f"{number}.png")
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda folder: shutil.rmtree(folder), "images/train, found none"),
    "a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("")), "images/train, found none"),
    "one class": (lambda folder: [shutil.rmtree(folder / part / "b") for part in ("train", "test")], "only a"),
    "a class without images": (
        lambda folder: [path.unlink() for path in (folder / "train" / "a").iterdir()],
        "images in .*train/a, found none",
    ),
    "a class of one image": (
        lambda folder: [(folder / "train" / "a" / f"{number}.png").unlink() for number in (1, 2, 3)],
        "at least 2 training images of every class, found 1",
    ),
    "a text as an image": (
        lambda folder: (folder / "train" / "a" / "2.png").write_text("no image"),
        r"image in .*train/a/2\.png, .*cannot be decoded",
    ),
    "an empty image": (
        lambda folder: (folder / "test" / "b" / "1.png").write_bytes(b""),
        r"image in .*test/b/1\.png, .*cannot be decoded",
    ),
    "half an image": (
        lambda folder: truncate(folder / "train" / "b" / "0.png"),
        r"image in .*train/b/0\.png, .*cannot be decoded",
    ),
    "a pipe as an image": (
        lambda folder: os.mkfifo(folder / "train" / "a" / "x.png"),
        r"x\.png, found no regular file",
    ),
}


def test_unreadable_images_are_left_out_by_option(run, tmp_path):
    folder = images(tmp_path / "images")
    truncate(folder / "train" / "b" / "0.png")
    (folder / "test" / "a" / "1.png").write_bytes(b"")
    ran = run("pretrain", *TINY, "--dataset", f"imagefolder:{folder}", "--skip_unreadable", "true")
    assert ran.status == 0, ran
    notes = ran.err.splitlines()
    assert [re.sub(r"^.*: |\S*/images/", "", note) for note in notes] == [
        "1 in train/b, such as 0.png",
        "1 in test/a, such as 1.png",
    ]


def test_a_class_of_unreadable_images(refused, tmp_path):
    folder = images(tmp_path / "images")
    for path in (folder / "train" / "b").iterdir():
        truncate(path)
    arguments = ("--dataset", f"imagefolder:{folder}", "--skip_unreadable", "true")
    refused("pretrain", *TINY, *arguments, words="images in .*train/b, found none that can be decoded")


@pytest.mark.parametrize("case", FOLDERS)
def test_folder_with(refused, tmp_path, case):
    damage, words = FOLDERS[case]
    damage(images(tmp_path / "images"))
    refused("pretrain", *TINY, "--dataset", f"imagefolder:{tmp_path}/images", words=words)
