"""Folders of images as people have them: names of parts, depth, kinds of files, and what is left out is said."""

from __future__ import annotations

import gzip
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emomc.common.errors import UserError, UserNote
from emomc.data.config import DataConfig
from emomc.data.datasets import load_dataset
from emomc.data.splits import has_test_images
from emomc.lightning_modules.image_data import ImageDataModule


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 5), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(len(str(path))).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(array).convert(mode).save(path, **options)


def make(folder: Path, *parts: str, count: int = 4) -> Path:
    for part in parts:
        for name in ("cat", "dog"):
            for number in range(count):
                save(folder / part / name / f"{number}.png")
    return folder


def load(folder: Path, **options):
    return load_dataset(DataConfig(dataset=f"imagefolder:{folder}", **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(make(tmp_path, "train"), "test", count=2)


def test_a_folder_of_images(folder):
    (folder / "train" / "cat" / "Thumbs.db").write_bytes(b"no image")
    (folder / "train" / ".hidden").mkdir()
    images = load(folder)
    assert images.class_names == ("cat", "dog")
    assert images.train.image_shape == (3, 6, 5)
    assert images.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    pixels, labels = images.test[torch.tensor([1, 2])]
    with Image.open(folder / "test" / "cat" / "1.png") as image:
        assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), np.array(image))
    assert labels.tolist() == [0, 1]


def test_grey_images_have_one_channel_and_one_colour_image_makes_all_colour(tmp_path: Path):
    for part in ("train", "test"):
        for name in "ab":
            for number in range(2):
                save(tmp_path / part / name / f"{number}.png", mode="L")
    assert load(tmp_path).train.image_shape == (1, 6, 5)
    save(tmp_path / "test" / "b" / "1.png", mode="RGB")
    assert load(tmp_path).train.image_shape == (3, 6, 5)


def test_unequal_sizes_need_the_resize_option(folder):
    save(folder / "test" / "dog" / "1.png", size=(7, 8))
    with pytest.raises(UserError, match=r"one size in .*, or --image_size .*6x5 and 7x8 .*test/dog/1.png"):
        load(folder)
    images = load(folder, image_size=9)
    pixels, _ = images.test[torch.arange(4)]
    assert pixels.shape == (4, 3, 9, 9)


def test_decoding_all_equals_decoding_each(folder):
    files = load(folder, image_size=4).train
    everything = torch.arange(len(files))
    assert torch.equal(files.decoded()[everything][0], files[everything][0])


def empty(folder: Path, where: str) -> None:
    for path in sorted((folder / where).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_folder_that_does_not_exist():
    with pytest.raises(UserError, match="one folder for each class at nowhere/train, found none"):
        load(Path("nowhere"))


@pytest.mark.parametrize(
    ("emptied", "message"),
    [
        ("train", "each of at least 2 classes in .*train, found no classes"),
        ("test", "each of at least 2 classes in .*test, found no classes"),
        ("train/cat", "expected images in .*train/cat, found none"),
    ],
)
def test_a_folder_without_classes_or_images(folder, emptied, message):
    empty(folder, emptied)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_one_class_is_none_to_tell_apart(folder):
    for part in ("train", "test"):
        empty(folder, f"{part}/dog")
        (folder / part / "dog").rmdir()
    with pytest.raises(UserError, match=r"at least 2 classes in .*train, found only cat"):
        load(folder)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_that_is_only_on_one_side(folder, part):
    save(folder / part / "bird" / "0.png")
    other = "test" if part == "train" else "train"
    with pytest.raises(UserError, match=f"found none of bird in {other}"):
        load(folder)


def test_a_file_that_is_no_image_is_named(folder):
    (folder / "train" / "cat" / "0.png").write_bytes(gzip.compress(b"no image"))
    with pytest.raises(UserError, match=r"expected an image in .*train/cat/0.png, found a file that cannot be decoded"):
        load(folder)


def test_images_of_numbers_without_a_scale_are_refused(folder):
    Image.fromarray(np.full((6, 5), 0.5, dtype=np.float32)).save(folder / "train" / "cat" / "0.tif")
    with pytest.raises(UserError, match=r"8 bits a channel, or grey of 16, in .*0.tif, found one of Pillow's mode F"):
        load(folder)


class TestParts:
    @pytest.mark.parametrize("name", ["val", "valid", "validation"])
    def test_validation_images_have_one_of_three_names(self, tmp_path, name):
        found = load(make(tmp_path, "train", name, "test"))
        assert [len(part) for part in (found.train, found.validation, found.test)] == [8, 8, 8]

    def test_they_are_what_a_module_validates_on(self, tmp_path):
        make(tmp_path, "train", "val", "test")
        module = ImageDataModule(DataConfig(dataset=f"imagefolder:{tmp_path}"))
        images, labels = module.load_split("validation")
        with Image.open(tmp_path / "val" / "dog" / "3.png") as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(images[-1], module.normalise(pixels))
        assert len(module.load_split("train")[1]) == 8
        assert labels.tolist() == [0] * 4 + [1] * 4

    def test_without_them_some_training_images_are_held_out(self, tmp_path):
        module = ImageDataModule(
            DataConfig(dataset=f"imagefolder:{make(tmp_path, 'train', 'test')}", validation_fraction=0.25)
        )
        assert [len(module.load_split(split)[1]) for split in ("train", "validation", "test")] == [6, 2, 8]

    def test_a_fraction_beside_them_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"expected no validation_fraction for .*, found 0.2"):
            load(make(tmp_path, "train", "val"), validation_fraction=0.2)

    def test_two_of_them_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"expected one folder of validation images in .*, found val and valid"):
            load(make(tmp_path, "train", "valid", "val"))

    @pytest.mark.parametrize("parts", [("train",), ("train", "val")])
    def test_without_test_images_there_are_none(self, tmp_path, parts):
        module = ImageDataModule(DataConfig(dataset=f"imagefolder:{make(tmp_path, *parts)}"))
        assert not has_test_images(module)
        assert len(module.load_split("validation")[1]) > 0
        with pytest.raises(UserError, match="expected at least one test image, found none"):
            module.load_split("test")

    def test_a_home_is_found(self, tmp_path, monkeypatch):
        make(tmp_path / "pets", "train", "test")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert len(load(Path("~/pets")).train) == 8


class TestFiles:
    def test_lie_at_any_depth(self, tmp_path):
        make(tmp_path, "train", "test")
        save(tmp_path / "train" / "cat" / "2024" / "may" / "deep.png")
        found = load(tmp_path)
        assert found.train.labels.tolist() == [0] * 5 + [1] * 4

    def test_of_a_linked_folder_count_once_and_a_ring_ends(self, tmp_path):
        make(tmp_path, "train", "test")
        (tmp_path / "more").mkdir()
        save(tmp_path / "more" / "one.png")
        for name in ("a", "b"):
            (tmp_path / "train" / "cat" / name).symlink_to(tmp_path / "more")
        (tmp_path / "more" / "ring").symlink_to(tmp_path / "train" / "cat")
        with pytest.warns(UserNote, match="more"):
            assert len(load(tmp_path).train) == 9

    @pytest.mark.parametrize("suffix", ["jfif", "JPG", "jpe", "webp", "tga", "jp2", "dib", "gif", "tiff", "ppm"])
    def test_have_any_suffix_that_is_decoded(self, tmp_path, suffix):
        make(tmp_path, "train", "test")
        path = tmp_path / "train" / "cat" / f"one.{suffix}"
        save(path, **({"format": "JPEG"} if suffix == "jfif" else {}))
        found = load(tmp_path)
        assert len(found.train) == 9
        assert found.train[torch.arange(9)][0].shape == (9, 3, 6, 5)

    def test_may_have_names_in_any_script(self, tmp_path):
        for part in ("train", "test"):
            for label in ("кошка", "犬"):
                save(tmp_path / part / label / "ünïcode – 写真.png")
        assert load(tmp_path).class_names == ("кошка", "犬")

    def test_that_would_run_another_program_are_not_opened(self, tmp_path):
        make(tmp_path, "train", "test")
        (tmp_path / "train" / "cat" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EOF\n")
        with pytest.raises(UserError, match=r"cat/0.png, found a file that cannot be decoded"):
            load(tmp_path)


class TestLeftOut:
    def notes(self, folder):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load(folder)
        return [str(note.message) for note in caught if note.category is UserNote]

    def test_nothing_is_said_of_nothing(self, tmp_path):
        make(tmp_path, "train", "test")
        (tmp_path / "train" / "cat" / ".DS_Store").touch()
        (tmp_path / "train" / "Thumbs.db").touch()
        assert not self.notes(tmp_path)

    def test_files_are_counted_by_kind(self, tmp_path):
        make(tmp_path, "train", "test")
        for name in ("a.txt", "b.TXT", "c.json", "README"):
            (tmp_path / "train" / "dog" / name).touch()
        (tmp_path / "test" / "labels.csv").touch()
        assert self.notes(tmp_path) == [
            f"left out files of {tmp_path} that are no images: 2 .txt, 1 .json, 1 without a suffix",
            f"left out files of {tmp_path} that lie in no class: 1 .csv",
        ]

    def test_folders_are_named(self, tmp_path):
        make(tmp_path, "train", "test", "dev")
        (said,) = self.notes(tmp_path)
        assert said.endswith("that are none of train, val, valid, validation and test: dev")


class TestClassesFile:
    def test_it_says_the_order_and_that_is_said(self, folder):
        (folder / "classes.txt").write_text("zebra\ndog\ncat\n")
        with pytest.warns(UserNote, match=r"the 3 classes have the order of .*classes.txt"):
            images = load(folder)
        assert images.class_names == ("zebra", "dog", "cat")
        assert images.train.labels.tolist() == [2] * 4 + [1] * 4
        assert images.test.labels.tolist() == [2, 2, 1, 1]

    def test_a_given_file_comes_first(self, folder, tmp_path):
        (folder / "classes.txt").write_text("no\nsuch")
        (tmp_path / "mine.json").write_text('{"cat": 1, "dog": 0}')
        assert load(folder, class_map=str(tmp_path / "mine.json")).train.labels.tolist() == [1] * 4 + [0] * 4

    def test_one_that_does_not_fit_is_refused(self, folder):
        (folder / "classes.txt").write_text("cat\nbird")
        with pytest.raises(UserError, match=r"every class of the images in .*classes.txt, found none of dog"):
            load(folder)


@pytest.mark.parametrize("name", [b"new\nline", b"\x1b[31mred", b"latin-1 \xe4"])
def test_a_class_whose_name_no_file_can_hold_is_refused_at_the_start(folder: Path, name: bytes) -> None:
    for part in ("train", "val", "test"):
        if (folder / part).exists():
            (folder / part / "cat").rename(folder / part / os.fsdecode(name))
    with pytest.raises(UserError, match="names of classes in UTF-8 without control characters") as raised:
        _ = ImageDataModule(DataConfig(dataset=f"imagefolder:{folder}")).facts
    assert str(raised.value).isprintable()
