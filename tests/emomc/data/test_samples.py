"""Datasets that a user's function returns: of torch, torchvision and Hugging Face, of pixels and of floats."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData

from emomc.common.errors import UserError
from emomc.data import samples
from emomc.data.config import DataConfig
from emomc.data.preprocessing import preprocessing_of
from emomc.data.samples import load_samples
from emomc.lightning_modules.image_data import ImageDataModule

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
LABELS = [number % 3 for number in range(12)]


class Listed(Dataset):
    """Gives what it is given, and counts how often."""

    def __init__(self, images, labels=LABELS, **facts):
        self.images, self.labels, self.read = images, labels, 0
        self.__dict__.update(facts)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read += 1
        return self.images[index], self.labels[index]


class Mapped(Listed):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"img": image, "label": label, "index": index}


class ClassLabel:
    """As that of Hugging Face."""

    names = ("ant", "bee", "cow")


class Columns(Mapped):
    """Says its labels and classes as a dataset of Hugging Face does."""

    column_names = ("img", "label")
    features = {"img": None, "label": ClassLabel()}  # noqa: RUF012  # an attribute of the real one

    def __getitem__(self, index):
        return self.labels if index == "label" else super().__getitem__(index)


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


class Endless(Stream):
    def __iter__(self):
        return zip(itertools.cycle(pictures()), itertools.cycle(LABELS), strict=False)


def pictures(mode: str = "RGB") -> list[Image.Image]:
    return [Image.fromarray(pixels).convert(mode) for pixels in PIXELS]


def load(given, **settings):
    config = DataConfig(dataset="file.py:make", **settings)
    return load_samples(given, config, preprocessing_of(config))


def module_of(given, **settings) -> ImageDataModule:
    return ImageDataModule(DataConfig(dataset="file.py:make", **settings), samples=given)


@pytest.mark.parametrize(
    "images",
    [
        pictures(),
        list(PIXELS),
        [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in PIXELS],
    ],
    ids=["Pillow", "arrays", "tensors"],
)
@pytest.mark.parametrize("kind", [Listed, Mapped, Columns])
def test_pixels_are_the_same_in_every_form(images, kind):
    dataset = load({"train": kind(images), "test": kind(images)})
    pixels, labels = dataset.train[torch.tensor([3, 1])]
    assert torch.equal(pixels, torch.from_numpy(PIXELS[[3, 1]]).permute(0, 3, 1, 2))
    assert labels.tolist() == [0, 1]
    assert dataset.class_names == (("ant", "bee", "cow") if kind is Columns else ("0", "1", "2"))
    assert torch.equal(dataset.test.decoded().images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))


def test_pixels_are_preprocessed_as_files_are(tmp_path: Path):
    for number, picture in enumerate(pictures()):
        path = tmp_path / "train" / str(LABELS[number]) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    settings = {"resize": 9, "crop": 8, "channels": 1, "mean": (0.4,), "std": (0.2,), "validation_fraction": 0.5}
    of_files = ImageDataModule(DataConfig(dataset=f"imagefolder:{tmp_path}", **settings))
    order = sorted(range(12), key=lambda number: (LABELS[number], number))
    given = Listed([pictures()[number] for number in order], [LABELS[number] for number in order])
    for split in ("train", "validation"):
        for one, other in zip(
            of_files.load_split(split), module_of((given,), **settings).load_split(split), strict=True
        ):
            assert torch.equal(one, other)


def test_grey_pictures_among_coloured_ones_become_coloured():
    mixed = Listed([*pictures("L")[:6], *pictures()[6:]])
    assert load((mixed,)).train.image_shape == (3, 6, 5)
    assert load((Listed(pictures("L")),)).train.image_shape == (1, 6, 5)


def test_torchvisions_datasets_fit():
    fake = FakeData(size=12, image_size=(3, 8, 9), num_classes=4)
    dataset = load({"train": Subset(fake, range(8)), "valid": Subset(fake, range(8, 12))})
    assert dataset.train.image_shape == (3, 8, 9)
    assert len(dataset.validation) == 4
    assert dataset.test is None
    assert dataset.train.labels.tolist() == [fake[index][1] for index in range(8)]


def test_labels_are_not_read_from_the_images_where_a_list_has_them():
    listed = Listed(pictures(), targets=torch.tensor(LABELS), classes=["x", "y", "z"])
    dataset = load((Subset(listed, [4, 5, 9]),), channels=3, image_size=4)
    assert dataset.train.labels.tolist() == [1, 2, 0]
    assert dataset.class_names == ("x", "y", "z")
    assert listed.read == 1
    # A transform of labels makes others of them.
    moved = Listed(
        pictures(), [label + 1 for label in LABELS], targets=LABELS, target_transform=lambda label: label + 1
    )
    assert load((moved,)).train.labels.tolist() == [label + 1 for label in LABELS]


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64])
def test_floats_are_taken_as_they_are(kind):
    ready = torch.randn(12, 2, 6, 5).to(kind)
    module = module_of((TensorDataset(ready, torch.tensor(LABELS, dtype=torch.int32)),) * 3)
    assert module.facts.mean is None
    for split in ("train", "validation", "test"):
        images, labels = module.load_split(split)
        assert torch.equal(images, ready.float())
        assert labels.tolist() == LABELS


def test_random_transforms_of_floats_are_drawn_again_in_every_epoch():
    class Noisy(Listed):
        def __getitem__(self, index):
            return torch.randn(1, 4, 4), self.labels[index]

    module = module_of((Noisy(LABELS), Noisy(LABELS)), batch_size=12)
    loader = module.train_dataloader()
    (first, _), (second, _) = next(iter(loader)), next(iter(loader))
    assert not torch.equal(first, second)
    # What is measured on, and what is calibrated with, stays.
    assert torch.equal(module.load_split("validation")[0], module.load_split("validation")[0])
    assert torch.equal(module.load_some("train", 3)[0], module.load_some("train", 3)[0])


def test_datasets_without_indices_are_read_once(monkeypatch):
    stream = Stream(list(zip(pictures(), LABELS, strict=True)))
    assert load((stream, stream)).validation.labels.tolist() == LABELS
    monkeypatch.setattr(samples, "ITERABLE_LIMIT_BYTES", 6 * 5 * 3 * 12)
    load((stream,))
    endless = Endless(None)
    with pytest.raises(UserError, match="which has no indices and is read once, to have images of at most 0 GiB"):
        load((endless,))


class Failing(Listed):
    def __getitem__(self, index):
        raise OSError("the disk\nhas gone")


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ({"train": Listed([])}, {}, "at least one sample in the train dataset of file.py:make, found none"),
        ({"test": Listed(PIXELS)}, {}, "a dataset of training images, found none"),
        ({"train": 3}, {}, "the train dataset of file.py:make to be a dataset with samples, found int"),
        ({"training": Listed(PIXELS)}, {}, "datasets named train, val, .*, found 'training'"),
        ({"train": Listed(PIXELS), "val": None, "valid": Listed(PIXELS)}, {}, "one dataset of validation images"),
        ((Failing(PIXELS),), {}, "expected sample 0 of the train dataset of file.py:make, found an error: the disk$"),
        ((Stream([3]),), {}, "expected samples .* as a pair or under names .* found a int in sample 0"),
        ((Listed(PIXELS.astype(int)),), {}, r"found int64 of shape \(6, 5, 3\) in sample 0"),
        ((Listed(PIXELS.astype(np.float32)),), {}, r"found float32 of shape \(6, 5, 3\) in sample 0"),
        ((Listed([*pictures()[:1], Image.new("F", (5, 6))], [0, 1]),), {}, "Pillow's mode F in sample 1"),
        ((Listed([*pictures()[:1], Image.new("L", (4, 6))], [0, 1]),), {}, "the first one, pixels of 6x5 .* 6x4 "),
        ((Listed([*pictures()[:1], torch.ones(3, 6, 5)], [0, 1]),), {}, "found floats of 3 channels and 6x5"),
        (
            (Listed([torch.ones(3, 6, 5)] * 12),),
            {"mean": (0.5,), "std": (1.0,)},
            "as pixels .* with --mean, found .*float",
        ),
        ((Listed(PIXELS, ["a"] * 12),), {}, "whole numbers as labels of .*, found 'a' in sample 0"),
        ((Listed(PIXELS, [0] * 12),), {}, "at least 2 classes in the train dataset of file.py:make, found 1"),
        ((Listed(PIXELS),), {"crop": 7}, "at least the crop of 7x7 pixels"),
    ],
)
def test_what_is_wrong_is_one_line(given, settings, message):
    with pytest.raises(UserError, match=message) as raised:
        load(given, **settings)
    assert "\n" not in str(raised.value)


def test_an_image_that_is_too_small_is_found_when_it_is_read():
    """Where the settings make all images alike, they are not looked at before."""
    odd = Listed([*pictures()[:11], Image.new("RGB", (2, 3))], targets=LABELS)
    module = module_of((odd,), channels=3, crop=5)
    with pytest.raises(UserError, match=r"at least the crop of 5x5 pixels .*, found one of 3x2"):
        module.load_resident("train", "validation")
    module = module_of((odd,), channels=3, resize=5, crop=5)
    assert len(module.load_split("train")[1]) + len(module.load_split("validation")[1]) == 12
