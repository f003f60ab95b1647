"""The user's settings of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from emomc.common.errors import UserError, is_whole
from emomc.common.schema import checked


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
        return checked(cls, values, "the data settings of a library", known_only=True)

    def __post_init__(self) -> None:
        for key in ("dataset", "data_dir"):
            text = getattr(self, key)
            plain = isinstance(text, str) and bool(text.strip()) and "\0" not in text
            _check(plain, f"a text without NUL as {key}", repr(text))
        for key, (least, most) in _RANGES.items():
            value = getattr(self, key)
            if value is not None or key != "image_size":
                _check(is_whole(value, least) and value <= most, f"a whole number of {least} to {most} as {key}", value)
        fraction = self.validation_fraction
        _check(fraction is None or 0 < fraction < 1, "a validation_fraction above 0 and below 1", fraction)
        _check(self.cache in ("auto", "always", "never"), "cache to be auto, always or never", self.cache)


_RANGES = {
    "batch_size": (1, 1 << 20),
    "image_size": (1, 1 << 14),
    "num_workers": (0, 1 << 10),
    "seed": (0, (1 << 63) - 1),
}


def _check(holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise UserError(f"expected {expected}, found {found}")
