"""The user's settings of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from emomc.common.errors import UserError, is_whole


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A dataset, how it is split, and how it reaches the network.

    Raises:
        UserError: a value is out of its range.
    """

    dataset: str = "digits"
    """``digits``, ``mnist``, ``cifar10``, ``imagefolder:DIR`` (DIR/train/CLASS/*, DIR/test/CLASS/*), or a
    LightningDataModule as ``path/to/file.py:Class`` or ``package.module:Class``."""
    data_dir: str = "data"
    """Folder of mnist and cifar10; they are downloaded into it if they are not there."""
    batch_size: int = 256
    """Largest number of images per batch and device, at least 1; an epoch is split into batches of about equal size."""
    validation_fraction: float | None = None
    """Share of the training images of every class, above 0 and below 1, held out for validation; none: 0.2 for digits,
    0.1 for every other dataset."""
    image_size: int | None = None
    """Height and width in pixels that images are resized to; none: 32 for digits, 32 by padding for mnist, else as
    they are."""
    augment: bool = True
    """Shift training images at random by up to an eighth of their width (grey images a sixteenth), and mirror colour
    images at random."""
    skip_unreadable: bool = False
    """Leave out image files that cannot be decoded, and say how many; all files are decoded once at the start to find
    them. Without this the first one is an error."""
    cache: Literal["auto", "always", "never"] = "auto"
    """Decode all images once and keep them in memory: always, never (stream them), or auto: if they take at most 4 GiB
    or are not in files."""
    num_workers: int = 0
    """Processes that decode streamed images; 0: the main process decodes them."""
    seed: int = 0
    """Decides the validation split and the order of training images, 0 or more."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """Make the configuration from the values in a library's manifest.

        Raises:
            UserError: a name is unknown, or a value is of a wrong type or out of its range.
        """
        try:
            return cls(**values)
        except (AttributeError, TypeError) as error:
            raise UserError(f"expected the data settings of a library, found a wrong entry: {error}") from None

    def __post_init__(self) -> None:
        for key in ("dataset", "data_dir"):
            _check(isinstance(getattr(self, key), str), f"a text as {key}", getattr(self, key))
        for key in ("batch_size", "num_workers", "seed"):
            _check(is_whole(getattr(self, key), 0), f"a whole number as {key}", getattr(self, key))
        _check(self.batch_size >= 1, "a batch_size of at least 1", self.batch_size)
        fraction = self.validation_fraction
        _check(fraction is None or 0 < fraction < 1, "a validation_fraction above 0 and below 1", fraction)
        _check(self.image_size is None or self.image_size >= 1, "an image_size of at least 1 pixel", self.image_size)
        _check(self.cache in ("auto", "always", "never"), "cache to be auto, always or never", self.cache)
        _check(self.num_workers >= 0, "a num_workers of at least 0", self.num_workers)
        _check(self.seed >= 0, "a seed of at least 0", self.seed)


def _check(holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise UserError(f"expected {expected}, found {found}")
