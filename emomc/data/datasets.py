"""The datasets by name: digits, mnist, cifar10 and folders of images."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emomc.common.errors import UserError, UserNote, first_line
from emomc.data.config import DataConfig
from emomc.data.images import ArrayImages, FileImages, Images, fit_to, in_threads, is_readable, read_header

FOLDER_PREFIX = "imagefolder:"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Files of a class's folder with other suffixes are no images and are left out."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB pixels in 0..1; the reference normalises CIFAR-10 with them, and weights from torchvision expect them."""


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Training and test images, and what is known of them."""

    train: Images
    test: Images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of pixels in 0..1."""
    std: tuple[float, ...]
    """Per channel, of pixels in 0..1."""
    validation_fraction: float = 0.1
    """Share of the training images to hold out where the user names none."""

    @property
    def is_colour(self) -> bool:
        """Whether the images have three channels."""
        return self.train.image_shape[0] == 3


def load_dataset(config: DataConfig) -> ImageDataset:
    """Load or find the images of a dataset.

    Raises:
        UserError: there is no such dataset, it cannot be downloaded, or a folder does not hold the images it should.
    """
    if config.dataset.startswith(FOLDER_PREFIX):
        folder = Path(config.dataset.removeprefix(FOLDER_PREFIX))
        return _image_folder(folder, config.image_size, skip_unreadable=config.skip_unreadable)
    loaders = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}
    if config.dataset not in loaders:
        raise UserError(
            f"expected a dataset among {', '.join(loaders)}, imagefolder:DIR, path/to/file.py:Class or "
            f"package.module:Class, found {config.dataset!r}"
        )
    return loaders[config.dataset](config)


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out the same share of every class.

    Args:
        labels: int64, shape (n,).
        fraction: share to hold out, above 0 and below 1. At least one image of a class is held out, and one is kept;
            else a class's number is off by less than one, and the total is exact.
        seed: decides which.

    Returns:
        The indices kept and the indices held out, int64, in ascending order.

    Raises:
        UserError: a class has fewer than two images.
    """
    classes, counts = np.unique(labels.numpy(), return_counts=True)
    if counts.min() < 2:
        lonely = classes[counts.argmin()]
        raise UserError(f"expected at least 2 training images of every class, found 1 of class {lonely}")
    # Largest remainders: whole numbers that add up to the share of all images.
    quota = fraction * counts
    held = np.floor(quota).astype(int)
    left = max(0, round(fraction * len(labels)) - int(held.sum()))
    held[np.argsort(held - quota, kind="stable")[:left]] += 1
    held = np.clip(held, 1, counts - 1)
    held_out = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, held, strict=True):
        members = np.flatnonzero(labels.numpy() == label)
        held_out[np.random.default_rng([seed, int(label)]).permutation(members)[:count]] = True
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))


def _digits(config: DataConfig) -> ImageDataset:
    """1,797 real images of 8x8 pixels in 17 grey levels.

    Source: UCI "Optical recognition of handwritten digits", as scikit-learn's ``load_digits``.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, targets = load_digits(return_X_y=True)
    grey = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) * (255 / 16)
    images = fit_to(grey.round().to(torch.uint8), config.image_size or 32, pad=False)
    labels = torch.from_numpy(targets).long()
    # The test images are the same for every seed: it only moves images between training and validation.
    train, test = stratified_split(labels, 0.2, seed=0)
    return ImageDataset(
        train=ArrayImages(images[train], labels[train]),
        test=ArrayImages(images[test], labels[test]),
        class_names=tuple("0123456789"),
        # Of all images, resized to 32x32.
        mean=(0.3052,),
        std=(0.3236,),
        validation_fraction=0.2,
    )


def _mnist(config: DataConfig) -> ImageDataset:
    """60,000 + 10,000 images of 28x28 pixels, in black frames of 2 pixels as LeNet-5's authors had them."""
    from torchvision.datasets import MNIST

    size = config.image_size or 32
    parts = []
    for train in (True, False):
        raw = _fetched(MNIST, config, train, "mnist")
        parts.append(ArrayImages(fit_to(raw.data.unsqueeze(1), size, pad=size == 32), raw.targets.long()))
    # Of the training images with their frames.
    return ImageDataset(parts[0], parts[1], tuple("0123456789"), mean=(0.1000,), std=(0.2752,))


def _cifar10(config: DataConfig) -> ImageDataset:
    """50,000 + 10,000 colour images of 32x32 pixels."""
    from torchvision.datasets import CIFAR10

    parts = []
    for train in (True, False):
        raw = _fetched(CIFAR10, config, train, "cifar10")
        images = torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous()
        parts.append(ArrayImages(fit_to(images, config.image_size or 32, pad=False), torch.tensor(raw.targets)))
    return ImageDataset(parts[0], parts[1], tuple(raw.classes), IMAGENET_MEAN, IMAGENET_STD)


def _fetched(dataset: Callable[..., Any], config: DataConfig, train: bool, name: str) -> Any:
    """Make a dataset of torchvision, which is downloaded, by one process at a time, only if it is not there."""
    folder = Path(config.data_dir)
    with contextlib.suppress(RuntimeError):  # what torchvision raises when files are missing or damaged
        return dataset(folder, train=train)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return dataset(folder, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"expected {name} in {folder}, found none there, and downloading it fails: {first_line(error)}"
        ) from error


def _image_folder(folder: Path, image_size: int | None, *, skip_unreadable: bool) -> ImageDataset:
    class_names = _classes(folder / "train")
    in_test = _classes(folder / "test")
    for missing, where in ((set(class_names) - set(in_test), "test"), (set(in_test) - set(class_names), "train")):
        if missing:
            raise UserError(
                f"expected the same classes in {folder}/train and {folder}/test, found none of "
                f"{', '.join(sorted(missing))} in {where}"
            )
    files = {part: [_files(folder / part / name) for name in class_names] for part in ("train", "test")}
    if skip_unreadable:
        files = {part: [_readable(of_class) for of_class in files[part]] for part in files}
    paths = {part: [path for of_class in files[part] for path in of_class] for part in files}
    shape = _common_shape(folder, paths["train"] + paths["test"], image_size)
    parts = []
    for part in ("train", "test"):
        counts = torch.tensor([len(of_class) for of_class in files[part]])
        labels = torch.arange(len(class_names)).repeat_interleave(counts)
        parts.append(FileImages(paths[part], labels, shape))
    grey = shape[0] == 1
    mean, std = ((0.449,), (0.226,)) if grey else (IMAGENET_MEAN, IMAGENET_STD)
    return ImageDataset(parts[0], parts[1], class_names, mean, std)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UserError(f"expected a folder of images with one folder for each class at {folder}, found no folder")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "no classes"
        raise UserError(f"expected a folder for each of at least 2 classes in {folder}, found {found}")
    return tuple(names)


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"expected images in {folder}, found none")
    return files


def _readable(paths: list[Path]) -> list[Path]:
    """Leave out the files of a class that cannot be decoded, and say so.

    Raises:
        UserError: none is left.
    """
    readable = in_threads(is_readable, paths)
    broken = [path for path, good in zip(paths, readable, strict=True) if not good]
    if len(broken) == len(paths):
        raise UserError(f"expected images in {paths[0].parent}, found none that can be decoded")
    if broken:
        note = f"left out images that cannot be decoded: {len(broken)} in {broken[0].parent}, such as {broken[0].name}"
        warnings.warn(note, UserNote, stacklevel=2)
    return [path for path, good in zip(paths, readable, strict=True) if good]


def _common_shape(folder: Path, paths: list[Path], image_size: int | None) -> tuple[int, int, int]:
    """Colour if any image is; the size asked for, or that of all images."""
    headers = in_threads(read_header, paths)
    channels = max(channels for channels, _, _ in headers)
    if image_size is not None:
        return channels, image_size, image_size
    sizes = Counter((height, width) for _, height, width in headers)
    if len(sizes) > 1:
        (common, _), (other, _) = sizes.most_common(2)
        example = next(path for path, header in zip(paths, headers, strict=True) if header[1:] == other)
        raise UserError(
            f"expected images of one size in {folder}, or image_size to resize them to, found "
            f"{common[0]}x{common[1]} and {other[0]}x{other[1]} (height x width; {example.relative_to(folder)})"
        )
    ((height, width),) = sizes
    return channels, height, width
