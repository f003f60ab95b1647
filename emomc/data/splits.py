"""The facts of a data module, and loading its splits into memory."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from emomc.common.errors import UserError, first_line
from emomc.common.json_values import has_control_characters
from emomc.data.held import HeldImages
from emomc.data.pairs import form_of, pair_of

Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Facts of the data that networks and exports need."""

    input_shape: tuple[int, int, int]
    """(channels, height, width) of one image."""
    num_classes: int
    """Number of classes."""
    class_names: tuple[str, ...]
    """Name of each class, by label."""
    mean: tuple[float, ...] | None
    """Per channel, of pixels in 0..1; None if a user's module does not give it."""
    std: tuple[float, ...] | None
    """Per channel, of pixels in 0..1; None if a user's module does not give it."""

    def __post_init__(self) -> None:
        """Check the names, which every later file holds.

        Raises:
            UserError: one has control characters.
        """
        for name in self.class_names:
            if has_control_characters(name):
                raise UserError(f"expected names of classes in UTF-8 without control characters, found {name!r}")


class KnownSplits(abc.ABC):
    """A built-in data module: it gives its facts and its splits without a loader."""

    @property
    @abc.abstractmethod
    def facts(self) -> DataFacts:
        """Facts of the data that networks and exports need."""

    @abc.abstractmethod
    def has_split(self, split: Split) -> bool:
        """Return whether there are images of a split."""

    @abc.abstractmethod
    def load_split(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return all images of a split, normalised, float32, shape (n, c, h, w), and their int64 labels."""

    @abc.abstractmethod
    def hold_split(self, split: Split) -> HeldImages:
        """Return all images of a split, held in memory."""

    @abc.abstractmethod
    def load_some(self, split: Split, count: int) -> tuple[Tensor, Tensor]:
        """Return at most ``count`` images of a split, spread evenly over it; otherwise as ``load_split``."""


def describe_data(data_module: LightningDataModule) -> DataFacts:
    """Return the facts of a data module.

    A user's module must have ``num_classes``; ``class_names``, ``mean`` and ``std`` are optional. ``input_shape`` is
    the shape of its first validation images.

    Raises:
        UserError: ``num_classes`` is missing, or the images cannot be loaded.
    """
    if isinstance(data_module, KnownSplits):
        return data_module.facts
    num_classes = _num_classes(data_module)
    images, _ = next(iter(_batches(data_module, "validation")), (None, None))
    if images is None:
        raise no_images("validation")
    names = getattr(data_module, "class_names", None) or tuple(str(label) for label in range(num_classes))
    if len(names) != num_classes:
        raise UserError(f"expected {num_classes} class_names, found {len(names)}")
    channels, height, width = images.shape[1:]
    mean, std = (getattr(data_module, key, None) for key in ("mean", "std"))
    return DataFacts(
        input_shape=(channels, height, width),
        num_classes=num_classes,
        class_names=tuple(str(name) for name in names),
        mean=None if mean is None else tuple(float(value) for value in mean),
        std=None if std is None else tuple(float(value) for value in std),
    )


def has_test_images(data_module: LightningDataModule) -> bool:
    """Return whether a data module gives test images; a user's does if it has a ``test_dataloader``."""
    if isinstance(data_module, KnownSplits):
        return data_module.has_split("test")
    return type(data_module).test_dataloader is not LightningDataModule.test_dataloader


def load_split(data_module: LightningDataModule, split: Split) -> tuple[Tensor, Tensor]:
    """Load a whole split into memory, as a network gets it in evaluation.

    A user's module is set up and its hooks of batches are applied, without a Trainer.

    Args:
        data_module: from ``build_data``, or any LightningDataModule with ``num_classes`` and batches as ``check_batch``
            takes them.
        split: "train" (not augmented if the module is built in), "validation" or "test".

    Returns:
        Normalised images, float32, shape (n, channels, height, width), and labels, int64, shape (n,).

    Raises:
        UserError: the split is empty, a label is outside 0..num_classes-1, an image is not finite, or batches are of
            another form.
    """
    if isinstance(data_module, KnownSplits):
        images, labels = data_module.load_split(split)
    else:
        batches = list(_batches(data_module, split))
        if not sum(len(labels) for _, labels in batches):
            raise no_images(split)
        shapes = {tuple(images.shape[1:]) for images, _ in batches}
        if len(shapes) > 1:
            raise UserError(f"expected {split} images of one shape, found {', '.join(map(str, sorted(shapes)))}")
        images = torch.cat([images for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
    _check_split(images, labels, _num_classes(data_module), split)
    return images, labels


def hold_split(data_module: LightningDataModule, split: Split) -> HeldImages:
    """Load a whole split to evaluate many networks on it.

    Args:
        data_module: as for ``load_split``.
        split: "train", "validation" or "test".

    Raises:
        UserError: as ``load_split``.
    """
    if not isinstance(data_module, KnownSplits):
        return HeldImages(*load_split(data_module, split))
    held = data_module.hold_split(split)
    if held.prepare is None:
        _check_split(held.images, held.labels, _num_classes(data_module), split)
    elif not len(held):
        raise no_images(split)
    else:
        check_labels(held.labels, _num_classes(data_module), split)
    return held


def load_some(data_module: LightningDataModule, split: Split, count: int) -> tuple[Tensor, Tensor]:
    """Load a fixed subset of a split's images, without loading the rest; see ``load_split``.

    For a built-in module they are spread evenly over the split. For a user's module they are the first images of its
    loader, with torch's generator seeded with 0.

    Args:
        data_module: as for ``load_split``.
        split: "train" (not augmented if the module is built in), "validation" or "test".
        count: images to load, or all if there are fewer.

    Returns:
        As ``load_split``, at most ``count`` images.

    Raises:
        UserError: as ``load_split``.
    """
    if isinstance(data_module, KnownSplits):
        images, labels = data_module.load_some(split, count)
    else:
        parts: list[tuple[Tensor, Tensor]] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for batch in _batches(data_module, split):
                parts.append(batch)
                if sum(len(labels) for _, labels in parts) >= count:
                    break
        if not parts:
            raise no_images(split)
        images = torch.cat([images for images, _ in parts])[:count]
        labels = torch.cat([labels for _, labels in parts])[:count]
    _check_split(images, labels, _num_classes(data_module), split)
    return images, labels


def check_labels(labels: Tensor, num_classes: int, split: Split) -> None:
    """Check the range of labels, of which there must be at least one.

    Raises:
        UserError: a label is outside 0..num_classes-1.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        found = low if low < 0 else high
        raise UserError(f"expected {split} labels in 0..{num_classes - 1}, found {found}")


def _check_split(images: Tensor, labels: Tensor, num_classes: int, split: Split) -> None:
    if not len(labels):
        raise no_images(split)
    check_labels(labels, num_classes, split)
    finite = torch.isfinite(images).flatten(1).all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise UserError(f"expected finite {split} images, found a NaN or an infinity in number {first}")


def _num_classes(data_module: LightningDataModule) -> int:
    found = getattr(data_module, "num_classes", None)
    if not isinstance(found, int) or found < 2:
        name = type(data_module).__name__
        raise UserError(f"expected {name}.num_classes, a whole number of at least 2, found {found!r}")
    return found


def _batches(data_module: LightningDataModule, split: Split) -> Iterable[tuple[Tensor, Tensor]]:
    """Set up a user's module, and yield its batches, checked after its hooks."""
    make = {
        "train": data_module.train_dataloader,
        "validation": data_module.val_dataloader,
        "test": data_module.test_dataloader,
    }
    try:
        data_module.prepare_data()
        data_module.setup("test" if split == "test" else "fit")
        for batch in make[split]():
            yield as_transferred(data_module, batch, torch.device("cpu"), split)
    except UserError:
        raise
    except Exception as error:
        name = type(data_module).__name__
        raise UserError(f"expected {split} batches of {name}, found an error: {first_line(error)}") from error


def as_transferred(
    data_module: LightningDataModule, batch: Any, device: torch.device, split: Split
) -> tuple[Tensor, Tensor]:
    """Move a batch to a device as a Trainer does, with the hooks of its data module.

    Returns:
        As ``check_batch``.

    Raises:
        UserError: the batch has another form.
    """
    batch = data_module.on_before_batch_transfer(batch, 0)
    batch = data_module.transfer_batch_to_device(batch, device, 0)
    return check_batch(data_module.on_after_batch_transfer(batch, 0), split)


def check_batch(batch: Any, split: Split) -> tuple[Tensor, Tensor]:
    """Return the images, float32 (n, channels, height, width), and the labels, int64 (n,), of a batch.

    Args:
        batch: a pair or a mapping (see ``pair_of``) of images, of any float type, and labels, of any integer type.
        split: where it comes from, for the error.

    Raises:
        UserError: the batch has another form.
    """
    pair = pair_of(batch)
    if pair is None or not all(isinstance(part, Tensor) for part in pair):
        raise UserError(
            f"expected {split} batches of two tensors, images and labels, as a pair or under names such as "
            f"image and label, found {form_of(batch)}"
        )
    images, labels = pair
    if images.ndim != 4 or not images.is_floating_point():
        raise UserError(
            f"expected {split} images as a float tensor (n, channels, height, width), found {images.dtype} of shape "
            f"{tuple(images.shape)}"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise UserError(
            f"expected {split} labels as a tensor of {len(images)} whole numbers, found {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    return images.float(), labels.long()


def no_images(split: Split) -> UserError:
    """Return the error for a split without images."""
    return UserError(f"expected at least one {split} image, found none")
