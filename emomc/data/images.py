"""Labelled images, in memory or in files. Every image is uint8, of shape (channels, height, width)."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from emomc.common.errors import UserError, first_line

MOST_PIXELS = 89_478_485
"""Pixels of an image, at most: 256 MiB as RGB. Pillow warns of larger ones."""

MOST_BYTES = 16 << 30
"""Memory of images that are resized at once, at most."""

# Items that a thread takes at once; with less than this time each, one thread is faster than several.
_PART, _FAST_SECONDS = 256, 5e-4

_T = TypeVar("_T")
_S = TypeVar("_S")

GREY_MODES = frozenset({"1", "L", "LA"})
"""Pillow's modes of grey images with at most 8 bits a pixel."""
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa"})
"""Pillow's modes that become RGB; transparency is dropped."""


class Images(Protocol):
    """Labelled images, read by their indices."""

    labels: Tensor
    """int64, shape (n,)."""
    image_shape: tuple[int, int, int]
    """(channels, height, width) of every image."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 images of shape (k, channels, height, width) and int64 labels of shape (k,)."""

    def subset(self, indices: Tensor) -> Images:
        """Return some of the images, in the order of ``indices``."""


class ArrayImages:
    """Images in memory.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        # Without waiting for the device to finish the batches before.
        indices = indices.to(self.images.device, non_blocking=True)
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> ArrayImages:
        """Return some of the images, in the order of ``indices``."""
        return ArrayImages(*self[indices])

    def to(self, device: torch.device) -> ArrayImages:
        """Return the images in the memory of a device."""
        return ArrayImages(self.images.to(device), self.labels.to(device))


class FileImages:
    """Images in files, decoded when they are read.

    Args:
        paths: one file an image.
        labels: int64, shape (n,).
        image_shape: (channels, height, width) to convert every image to.
    """

    def __init__(
        self, paths: Sequence[Path] | NDArray[np.str_], labels: Tensor, image_shape: tuple[int, int, int]
    ) -> None:
        # One array, not many objects, so that worker processes share its memory.
        self._paths = np.array([os.fspath(path) for path in paths])
        self.labels = labels
        self.image_shape = image_shape

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.stack([self._decode(int(index)) for index in indices])
        return images, self.labels[indices]

    def subset(self, indices: Tensor) -> FileImages:
        """Return some of the images, in the order of ``indices``."""
        return FileImages(self._paths[indices.numpy()], self.labels[indices], self.image_shape)

    def decoded(self) -> ArrayImages:
        """Decode every image, on all cores."""
        images = torch.empty((len(self), *self.image_shape), dtype=torch.uint8)

        def fill(index: int) -> None:
            images[index] = self._decode(index)

        in_threads(fill, range(len(self)))
        return ArrayImages(images, self.labels)

    def _decode(self, index: int) -> Tensor:
        channels, height, width = self.image_shape
        path = Path(str(self._paths[index]))
        with _opened(path) as image:
            pixels = image.convert("L" if channels == 1 else "RGB")
        if pixels.size != (width, height):
            pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
        array = torch.from_numpy(np.array(pixels))
        return array.unsqueeze(0) if channels == 1 else array.permute(2, 0, 1)


def read_header(path: Path) -> tuple[int, int, int]:
    """Return (channels: 1 or 3, height, width) of an image file without decoding its pixels.

    Raises:
        UserError: the file is not an image, or has more than 8 bits per channel.
    """
    with _opened(path) as image:
        mode, (width, height) = image.mode, image.size
    if mode not in GREY_MODES | COLOUR_MODES:
        raise UserError(f"expected an image of 8 bits a channel in {path}, found one of Pillow's mode {mode}")
    return (1 if mode in GREY_MODES else 3), height, width


def is_readable(path: Path) -> bool:
    """Return whether an image file can be decoded completely."""
    try:
        read_header(path)
        with _opened(path) as image:
            image.load()
    except UserError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; name it in whatever its decoder raises.

    Raises:
        UserError: the file is no regular file, has too many pixels, or its decoder fails in the block.
    """
    # Opening a pipe would wait for a writer.
    if not path.is_file():
        raise UserError(f"expected an image in {path}, found no regular file")
    try:
        with Image.open(path) as image:
            if math.prod(image.size) > MOST_PIXELS:
                raise ValueError(f"it has {math.prod(image.size)} pixels, over {MOST_PIXELS}")
            yield image
    # Decoders raise errors of many kinds.
    except Exception as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the error for a file that cannot be decoded."""
    return UserError(f"expected an image in {path}, found a file that cannot be decoded: {first_line(error)}")


def in_threads(function: Callable[[_T], _S], items: Sequence[_T]) -> list[_S]:
    """Return ``function`` of each item, called in threads if that is faster.

    Pillow releases Python's global lock only while it decodes pixels, so small images are faster in one thread.
    """
    # A thread takes many items at once, since handing over one costs as much as reading a header.
    first, rest = items[:_PART], items[_PART:]
    began = time.monotonic()
    results = [function(item) for item in first]
    if time.monotonic() - began < _FAST_SECONDS * len(first):
        return results + [function(item) for item in rest]
    parts = [rest[start : start + _PART] for start in range(0, len(rest), _PART)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        of_parts = pool.map(lambda part: [function(item) for item in part], parts)
        return results + [result for of_part in of_parts for result in of_part]


def fit_to(images: Tensor, size: int, *, pad: bool) -> Tensor:
    """Pad or resize images to size x size pixels.

    Args:
        images: uint8, shape (n, channels, height, width), square.
        size: height and width wanted, pixels.
        pad: pad smaller images with black on all sides; otherwise resize them bilinearly.

    Raises:
        UserError: they would take more than ``MOST_BYTES``.
    """
    missing = size - images.shape[-1]
    if missing == 0:
        return images
    if math.prod(images.shape[:2]) * size**2 > MOST_BYTES:
        raise UserError(
            f"expected images that take at most {MOST_BYTES >> 30} GiB of memory together, found {len(images)} of "
            f"{size}x{size} pixels: lower --image_size"
        )
    if pad and missing > 0:
        before, after = missing // 2, missing - missing // 2
        return functional.pad(images, (before, after, before, after))
    return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=missing < 0)
