"""The datasets: digits, mnist, cifar10, folders of images, and what users' functions return.

To add one, write its loader and add an entry to ``DATASETS``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emomc.common.errors import UserError, UserFact, first_line
from emomc.data.class_order import CLASSES_FILE, in_class_order, read_class_order
from emomc.data.config import DataConfig
from emomc.data.image_dataset import ImageDataset, stratified_split
from emomc.data.image_folder import FOLDER_PREFIX, load_image_folder
from emomc.data.images import ArrayImages, fit_to, in_channels
from emomc.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, parse_size, preprocessing_of
from emomc.data.samples import load_samples
from emomc.runtime.memory import memory_for


def load_dataset(
    config: DataConfig,
    *,
    download: bool = True,
    root: Path = Path(),
    samples: Any = None,
    class_names: Sequence[str] | None = None,
) -> ImageDataset:
    """Load the images of a dataset, or find their files.

    Args:
        config: which, and where.
        download: fetch a dataset that is missing into ``config.data_dir``.
        root: folder that relative paths of the settings start from.
        samples: what a user's function returned, whose name is ``config.dataset``; see ``load_samples``.
        class_names: all classes of a network, in the order of its outputs; None: those of the dataset, in the order
            that ``config.class_map`` or else the dataset says.

    Raises:
        UserError: there is no such dataset, it cannot be downloaded, or a folder does not have the expected images.
    """
    preprocessing = preprocessing_of(config)
    with memory_for(f"the images of {config.dataset}", "lower --image_size"):
        found = _load(config, preprocessing, root, samples, download=download)
    if found.validation is not None and config.validation_fraction is not None:
        raise UserError(
            f"expected no validation_fraction for {config.dataset}, which has validation images, "
            f"found {config.validation_fraction}"
        )
    found = in_class_order(found, class_names or _class_order(config, found.class_names, root))
    if preprocessing.mean is None or preprocessing.std is None:
        return found
    channels = found.train.image_shape[0]
    if len(preprocessing.mean) != channels:
        raise UserError(f"expected a mean of {channels} numbers, one a channel, found {len(preprocessing.mean)}")
    return dataclasses.replace(found, mean=preprocessing.mean, std=preprocessing.std)


def _class_order(config: DataConfig, present: Sequence[str], root: Path) -> Sequence[str]:
    """Return the classes in the order of a user's file, if there is one; the order of ``present`` else."""
    if config.class_map is not None:
        return read_class_order(Path(config.class_map).expanduser(), present)
    if not config.dataset.startswith(FOLDER_PREFIX) or not (file := _folder(config, root) / CLASSES_FILE).is_file():
        return present
    names = read_class_order(file, present)
    warnings.warn(f"the {len(names)} classes have the order of {file}", UserFact, stacklevel=2)
    return names


def _folder(config: DataConfig, root: Path) -> Path:
    return root / Path(config.dataset.removeprefix(FOLDER_PREFIX)).expanduser()


def _load(
    config: DataConfig, preprocessing: Preprocessing, root: Path, samples: Any, *, download: bool
) -> ImageDataset:
    if samples is not None:
        return load_samples(samples, config, preprocessing)
    if config.dataset.startswith(FOLDER_PREFIX):
        return load_image_folder(_folder(config, root), preprocessing, skip_unreadable=config.skip_unreadable)
    if config.dataset not in DATASETS:
        raise UserError(
            f"expected a dataset among {', '.join(DATASETS)}, imagefolder:DIR, path/to/file.py:NAME or "
            f"package.module:NAME, found {config.dataset!r}"
        )
    if preprocessing.resize or preprocessing.crop or config.interpolation or preprocessing.interpolation != "bilinear":
        raise UserError(
            f"expected resize, crop and interpolation for images of a folder alone, found them for {config.dataset}: "
            f"set --image_size, --mean and --std, or write its images to a folder"
        )
    found_in = root / Path(config.data_dir).expanduser()
    found = DATASETS[config.dataset](dataclasses.replace(config, data_dir=str(found_in)), download)
    return found if preprocessing.channels is None else _in_channels(found, preprocessing.channels)


def _in_channels(dataset: ImageDataset, channels: int) -> ImageDataset:
    """Return a dataset in memory with grey images or images in colour; its statistics stay those of what it was."""
    train, test = (
        ArrayImages(in_channels(part.images, channels), part.labels)
        for part in (dataset.train, dataset.test)
        if isinstance(part, ArrayImages)
    )
    mean, std = (
        values if len(values) == channels else values * 3 if channels == 3 else (sum(values) / len(values),)
        for values in (dataset.mean or (), dataset.std or ())
    )
    return dataclasses.replace(dataset, train=train, test=test, mean=mean, std=std)


def _digits(config: DataConfig, download: bool) -> ImageDataset:
    """1,797 real images of 8x8 pixels in 17 grey levels.

    Source: UCI "Optical recognition of handwritten digits", as scikit-learn's ``load_digits``.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, targets = load_digits(return_X_y=True)
    grey = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) * (255 / 16)
    images = fit_to(grey.round().to(torch.uint8), parse_size(config.image_size) or (32, 32), pad=False)
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

    size = parse_size(config.image_size) or (32, 32)
    parts = []
    for train in (True, False):
        raw = _fetched(MNIST, config, train, "mnist", download)
        parts.append(ArrayImages(fit_to(raw.data.unsqueeze(1), size, pad=size == (32, 32)), raw.targets.long()))
    # Statistics of the padded training images.
    return ImageDataset(parts[0], parts[1], tuple("0123456789"), mean=(0.1000,), std=(0.2752,))


def _cifar10(config: DataConfig, download: bool) -> ImageDataset:
    """50,000 + 10,000 colour images of 32x32 pixels."""
    from torchvision.datasets import CIFAR10

    parts = []
    for train in (True, False):
        raw = _fetched(CIFAR10, config, train, "cifar10", download)
        images = torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous()
        size = parse_size(config.image_size) or (32, 32)
        parts.append(ArrayImages(fit_to(images, size, pad=False), torch.tensor(raw.targets)))
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
