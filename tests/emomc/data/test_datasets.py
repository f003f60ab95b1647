import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.data.config import DataConfig
from emomc.data.datasets import load_dataset
from emomc.data.image_dataset import stratified_split


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99)
)
def test_a_stratified_split_takes_the_same_share_of_every_class(counts, fraction, seed):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    kept, held_out = stratified_split(labels, fraction, seed)
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(len(labels)))
    for label, count in enumerate(counts):
        held = int((labels[held_out] == label).sum())
        assert 1 <= held <= count - 1
        assert abs(held - fraction * count) <= 1
    assert all(
        torch.equal(a, b) for a, b in zip((kept, held_out), stratified_split(labels, fraction, seed), strict=True)
    )


def test_the_size_of_a_split_is_exact():
    # MNIST's classes are of unequal size: a tenth of each, rounded, makes 5,999.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    labels = torch.arange(10).repeat_interleave(torch.tensor(counts))
    kept, held_out = stratified_split(labels, 0.1, 0)
    assert (len(kept), len(held_out)) == (54_000, 6_000)


def test_another_seed_holds_out_other_images():
    labels = torch.zeros(100, dtype=torch.int64)
    assert not torch.equal(stratified_split(labels, 0.2, 0)[1], stratified_split(labels, 0.2, 1)[1])


def test_a_class_of_one_image_cannot_be_split():
    with pytest.raises(UserError, match="at least 2 training images of every class, found 1 of class 1"):
        stratified_split(torch.tensor([0, 0, 1]), 0.5, 0)


def test_digits_are_1797_images_at_32x32():
    digits = load_dataset(DataConfig())
    assert len(digits.train) + len(digits.test) == 1797
    assert digits.train.image_shape == (1, 32, 32)
    images, _ = digits.train[torch.arange(len(digits.train))]
    assert images.dtype == torch.uint8
    pixels = images / 255
    assert pixels.mean().item() == pytest.approx(digits.mean[0], abs=0.01)
    assert pixels.std().item() == pytest.approx(digits.std[0], abs=0.01)
    # The same test images whatever the seed.
    other = load_dataset(DataConfig(seed=5)).test
    everything = torch.arange(len(other))
    assert torch.equal(digits.test[everything][0], other[everything][0])


def test_digits_in_another_size():
    assert load_dataset(DataConfig(image_size=16)).train.image_shape == (1, 16, 16)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 20)):
        images = random.integers(1, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def test_mnist_stands_in_a_frame_of_two_pixels(small_mnist):
    mnist = load_dataset(DataConfig(dataset="mnist", data_dir=str(small_mnist)))
    images, labels = mnist.train[torch.arange(30)]
    assert images.shape == (30, 1, 32, 32)
    assert labels.tolist() == [*range(10)] * 3
    inner = torch.zeros(32, 32, dtype=torch.bool)
    inner[2:30, 2:30] = True
    assert (images[..., inner] > 0).all()
    assert (images[..., ~inner] == 0).all()
    assert len(mnist.test) == 20


@pytest.mark.parametrize("size", [28, 20, 48])
def test_mnist_in_another_size(small_mnist, size):
    mnist = load_dataset(DataConfig(dataset="mnist", data_dir=str(small_mnist), image_size=size))
    assert mnist.train.image_shape == (1, size, size)


def test_cifar10_is_read_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = random.integers(0, 256, (20, 3072), dtype=np.uint8)
    batch = {"data": pixels, "labels": [*range(10)] * 2}
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(batch))
    names = [f"class {number}" for number in range(10)]
    (folder / "meta").write_bytes(pickle.dumps({"label_names": names}))
    # torchvision would refuse these files: their checksums are not those of the real ones.
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", [["train", None]])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", [["test", None]])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": None})
    cifar = load_dataset(DataConfig(dataset="cifar10", data_dir=str(tmp_path)))
    assert cifar.class_names == tuple(names)
    assert cifar.is_colour
    images, labels = cifar.test[torch.arange(20)]
    assert np.array_equal(images.numpy().reshape(20, 3072), pixels)
    assert labels.tolist() == batch["labels"]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    # Nothing listens on this port.
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(UserError, match=f"expected {name} in .*found none there, and the download fails") as raised:
        load_dataset(DataConfig(dataset=name, data_dir=str(tmp_path)))
    assert "\n" not in str(raised.value)


def test_an_unknown_dataset_names_the_choices():
    with pytest.raises(UserError, match=r"among digits, mnist, cifar10, imagefolder:DIR.* found 'cifar'"):
        load_dataset(DataConfig(dataset="cifar"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"validation_fraction": 1.0},
        {"validation_fraction": 0.0},
        {"image_size": 0},
        {"image_size": "12x"},
        {"image_size": "3x4x5"},
        {"crop": "-3"},
        {"resize": 0},
        {"channels": 2},
        {"interpolation": "cubic"},
        {"mean": (0.5,)},
        {"cache": "sometimes"},
        {"num_workers": -1},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        DataConfig(**wrong)
