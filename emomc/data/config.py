"""The user's settings of the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from emomc.common.errors import UserError, is_whole
from emomc.common.schema import checked

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Augmentation = Literal["none", "shift", "random_resized_crop", "randaugment"]
PREPROCESSING = ("image_size", "resize", "crop", "interpolation", "channels", "mean", "std", "preset")
"""Settings that say how pixels become what a network takes; none of them is set unless it is given."""
MUST_TAKE_EFFECT = (*PREPROCESSING, "class_map")
"""Settings that a user's data module must take if they are given."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A dataset, how it is split, and how it reaches the network.

    Raises:
        UserError: a value is out of its range.
    """

    dataset: str = "digits"
    """``digits``, ``mnist``, ``cifar10``, ``imagefolder:DIR`` (DIR/train/CLASS/..., and val and test), or
    ``path/to/file.py:NAME`` or ``package.module:NAME``: a LightningDataModule, or a function that returns one or the
    datasets of each split."""
    data_dir: str = "data"
    """Folder of mnist and cifar10; they are downloaded into it if they are not there."""
    batch_size: int = 256
    """Largest number of images per batch and device, at least 1; an epoch is split into batches of about equal size."""
    validation_fraction: float | None = None
    """Share of the training images of every class, above 0 and below 1, held out for validation; none: 0.2 for digits,
    0.1 for every other dataset."""
    image_size: int | str | None = None
    """Pixels that images are resized to, such as 32 or, height first, 48x64; none: 32 for digits, 32 by padding for
    mnist, else as they are."""
    resize: int | None = None
    """Pixels of the shorter side that the images of a folder are resized to, in proportion."""
    crop: int | str | None = None
    """Pixels of the middle that is cut out of the images of a folder, such as 224 or 192x256, after ``resize``."""
    interpolation: Interpolation | None = None
    """How the images of a folder are resized; none: bilinear, or as the preset says."""
    channels: Literal[1, 3] | None = None
    """1: grey images; 3: images in colour; none: colour if any image is."""
    mean: tuple[float, ...] | None = None
    """For each channel, subtracted from pixels in 0..1; none: statistics of the dataset, or of ImageNet for folders."""
    std: tuple[float, ...] | None = None
    """For each channel, what pixels in 0..1, without the mean, are divided by; none: as for ``mean``."""
    preset: str | None = None
    """Preprocessing that trained weights expect: ``imagenet``, ``cifar10``, ``mnist``, ``timm:NAME`` or
    ``torchvision:WEIGHTS``. The settings above take its place where they are given."""
    class_map: str | None = None
    """File with the classes in the order of the outputs of given weights: a text with one name a line, or JSON; none:
    ``classes.txt`` in the folder of images, or else the order of their names."""
    augment: Augmentation | bool = "shift"
    """How training images are changed at random: not at all; ``shift``: by up to an eighth of their width (grey images
    a sixteenth); ``random_resized_crop``: a cutout of 8 to 100 % of the area, resized; ``randaugment``: a shift and two
    of RandAugment's changes. All but none also mirror colour images. true: shift, false: none."""
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
        if isinstance(self.augment, bool):
            object.__setattr__(self, "augment", "shift" if self.augment else "none")
        _check(self.augment in get_args(Augmentation), f"augment to be one of {_AUGMENTATIONS}", self.augment)
        for key in ("dataset", "data_dir", *(("class_map",) if self.class_map is not None else ())):
            text = getattr(self, key)
            plain = isinstance(text, str) and bool(text.strip()) and "\0" not in text
            _check(plain, f"a text without NUL as {key}", repr(text))
        for key, (least, most) in _RANGES.items():
            value = getattr(self, key)
            if value is not None or key != "resize":
                _check(is_whole(value, least) and value <= most, f"a whole number of {least} to {most} as {key}", value)
        self._check_preprocessing()
        fraction = self.validation_fraction
        _check(fraction is None or 0 < fraction < 1, "a validation_fraction above 0 and below 1", fraction)
        _check(self.cache in ("auto", "always", "never"), "cache to be auto, always or never", self.cache)

    def _check_preprocessing(self) -> None:
        for key in ("image_size", "crop"):
            size = getattr(self, key)
            expected = f"pixels of 1 to {_LARGEST_SIDE}, such as 224 or 192x256, as {key}"
            _check(size is None or _is_size(size), expected, repr(size))
        both = self.image_size is not None and (self.resize is not None or self.crop is not None)
        _check(not both, "either image_size or resize and crop", "both")
        _check(self.channels in (None, 1, 3), "1 or 3 as channels", self.channels)
        known, chosen = get_args(Interpolation), self.interpolation
        _check(chosen in (None, *known), f"one of {', '.join(known)} as interpolation", chosen)
        _check((self.mean is None) == (self.std is None), "both mean and std, or none of them", "one")
        mean, std = self.mean or (), self.std or ()
        _check(len(mean) == len(std), "as many numbers of mean as of std", f"{len(mean)} and {len(std)}")
        for number in mean:
            _check(math.isfinite(number), "finite numbers as mean", number)
        for number in std:
            _check(0 < number < math.inf, "finite numbers above 0 as std", number)


_AUGMENTATIONS = ", ".join(get_args(Augmentation))
_LARGEST_SIDE = 1 << 14
_RANGES = {
    "batch_size": (1, 1 << 20),
    "resize": (1, _LARGEST_SIDE),
    "num_workers": (0, 1 << 10),
    "seed": (0, (1 << 63) - 1),
}


def _check(holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise UserError(f"expected {expected}, found {found}")


def _is_size(value: object) -> bool:
    sides = str(value).split("x") if isinstance(value, str) or is_whole(value) else []
    whole = all(side.isascii() and side.isdecimal() and len(side) <= 5 for side in sides)
    return len(sides) in (1, 2) and whole and all(1 <= int(side) <= _LARGEST_SIDE for side in sides)
