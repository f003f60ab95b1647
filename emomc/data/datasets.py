"""The datasets by name: digits, mnist, cifar10 and folders of images.

To add one, write its loader and add an entry to ``DATASETS``.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from emomc.common.errors import UserError, first_line
from emomc.data.config import DataConfig
from emomc.data.image_dataset import IMAGENET_MEAN, IMAGENET_STD, ImageDataset, stratified_split
from emomc.data.image_folder import FOLDER_PREFIX, load_image_folder
from emomc.data.images import ArrayImages, fit_to
from emomc.runtime.memory import memory_for


def load_dataset(config: DataConfig, *, download: bool = True) -> ImageDataset:
    """Load the images of a dataset, or find their files.

    Args:
        config: which, and where.
        download: fetch a dataset that is missing into ``config.data_dir``.

    Raises:
        UserError: there is no such dataset, it cannot be downloaded, or a folder does not have the expected images.
    """
    with memory_for(f"the images of {config.dataset}", "lower --image_size"):
        return _load(config, download=download)


def _load(config: DataConfig, *, download: bool) -> ImageDataset:
    if config.dataset.startswith(FOLDER_PREFIX):
        folder = Path(config.dataset.removeprefix(FOLDER_PREFIX))
        return load_image_folder(folder, config.image_size, skip_unreadable=config.skip_unreadable)
    if config.dataset not in DATASETS:
        raise UserError(
            f"expected a dataset among {', '.join(DATASETS)}, imagefolder:DIR, path/to/file.py:Class or "
            f"package.module:Class, found {config.dataset!r}"
        )
    return DATASETS[config.dataset](config, download)


def _digits(config: DataConfig, download: bool) -> ImageDataset:
    """1,797 real images of 8x8 pixels in 17 grey levels.

    Source: UCI "Optical recognition of handwritten digits", as scikit-learn's ``load_digits``.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, targets = load_digits(return_X_y=True)
    grey = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) * (255 / 16)
    images = fit_to(grey.round().to(torch.uint8), config.image_size or 32, pad=False)
    labels = torch.from_numpy(targets).long()
    # The test images are the same for every seed; the seed only splits training and validation images.
    train, test = stratified_split(labels, 0.2, seed=0)
    return ImageDataset(
        train=ArrayImages(images[train], labels[train]),
        test=ArrayImages(images[test], labels[test]),
        class_names=tuple("0123456789"),
        # Statistics of all images, resized to 32x32.
        mean=(0.3052,),
        std=(0.3236,),
        validation_fraction=0.2,
    )


def _mnist(config: DataConfig, download: bool) -> ImageDataset:
    """60,000 + 10,000 images of 28x28 pixels, padded with 2 black pixels on each side as for LeNet-5's authors."""
    from torchvision.datasets import MNIST

    size = config.image_size or 32
    parts = []
    for train in (True, False):
        raw = _fetched(MNIST, config, train, "mnist", download)
        parts.append(ArrayImages(fit_to(raw.data.unsqueeze(1), size, pad=size == 32), raw.targets.long()))
    # Statistics of the padded training images.
    return ImageDataset(parts[0], parts[1], tuple("0123456789"), mean=(0.1000,), std=(0.2752,))


def _cifar10(config: DataConfig, download: bool) -> ImageDataset:
    """50,000 + 10,000 colour images of 32x32 pixels."""
    from torchvision.datasets import CIFAR10

    parts = []
    for train in (True, False):
        raw = _fetched(CIFAR10, config, train, "cifar10", download)
        images = torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous()
        parts.append(ArrayImages(fit_to(images, config.image_size or 32, pad=False), torch.tensor(raw.targets)))
    return ImageDataset(parts[0], parts[1], tuple(raw.classes), IMAGENET_MEAN, IMAGENET_STD)


def _fetched(dataset: Callable[..., Any], config: DataConfig, train: bool, name: str, download: bool) -> Any:
    """Return a dataset of torchvision; download it, in one process at a time, only if it is missing."""
    folder = Path(config.data_dir)
    with contextlib.suppress(RuntimeError):  # what torchvision raises when files are missing or damaged
        return dataset(folder, train=train)
    if not download:
        raise UserError(f"expected {name} in {folder}, as the library says, found none: name a folder with --data_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return dataset(folder, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"expected {name} in {folder}, found none there, and the download fails: {first_line(error)}"
        ) from error


DATASETS: Mapping[str, Callable[[DataConfig, bool], ImageDataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
}
"""Name on the command line -> its loader, which is told whether it may download what is missing."""
