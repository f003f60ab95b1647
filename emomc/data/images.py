"""Labelled images, in memory or in files, of shape (channels, height, width): uint8 pixels.

A user's dataset may also have floats, which a network takes as they are.
"""

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
from emomc.data.preprocessing import MOST_PIXELS, SIXTEEN_BIT_MODES, Preprocessing, Size, pixels_of, upright_size

MOST_BYTES = 16 << 30
"""Memory of images that are resized at once, at most."""

# Items that a thread takes at once.
_PART = 256
# One thread and many are tried in turn, so often each, on so many items.
_TURNS, _TRIED = 2, 64
# Many are used if they take less than this share of the time.
_MOST_SHARE = 0.8

_T = TypeVar("_T")
_S = TypeVar("_S")

GREY_MODES = frozenset({"1", "L", "LA"}) | SIXTEEN_BIT_MODES
"""Pillow's modes of grey images with at most 16 bits a pixel."""
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa"})
"""Pillow's modes that become RGB; transparency is dropped."""


def _formats() -> tuple[str, ...]:
    """Return the formats that Pillow decodes itself, without another program."""
    Image.init()
    return tuple(sorted({*Image.OPEN} - {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}))


FORMATS = _formats()
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
"""Of files in these formats, in lower case."""


class Images(Protocol):
    """Labelled images, read by their indices."""

    labels: Tensor
    """int64, shape (n,)."""
    image_shape: tuple[int, int, int]
    """(channels, height, width) of every image."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of shape (k, channels, height, width) and int64 labels of shape (k,)."""

    def subset(self, indices: Tensor) -> Images:
        """Return some of the images, in the order of ``indices``."""

    def decoded(self) -> ArrayImages:
        """Return the images in memory."""


class ArrayImages:
    """Images in memory.

    Args:
        images: uint8 or float32, shape (n, channels, height, width).
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

    def decoded(self) -> ArrayImages:
        """Return itself."""
        return self

    def to(self, device: torch.device) -> ArrayImages:
        """Return the images in the memory of a device."""
        return ArrayImages(self.images.to(device), self.labels.to(device))


class FileImages:
    """Images in files, decoded when they are read.

    Args:
        paths: one file an image.
        labels: int64, shape (n,).
        image_shape: (channels, height, width) of every image after preprocessing.
        preprocessing: how an image gets this shape.
    """

    def __init__(
        self,
        paths: Sequence[Path] | NDArray[np.str_],
        labels: Tensor,
        image_shape: tuple[int, int, int],
        preprocessing: Preprocessing,
    ) -> None:
        # One array, not many objects, so that worker processes share its memory.
        self._paths = np.array([os.fspath(path) for path in paths])
        self.labels = labels
        self.image_shape = image_shape
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.stack([self._decode(int(index)) for index in indices])
        return images, self.labels[indices]

    def subset(self, indices: Tensor) -> FileImages:
        """Return some of the images, in the order of ``indices``."""
        return FileImages(self._paths[indices.numpy()], self.labels[indices], self.image_shape, self.preprocessing)

    def decoded(self) -> ArrayImages:
        """Decode every image, on all cores."""
        images = torch.empty((len(self), *self.image_shape), dtype=torch.uint8)

        def fill(index: int) -> None:
            images[index] = self._decode(index)

        in_threads(fill, range(len(self)))
        return ArrayImages(images, self.labels)

    def _decode(self, index: int) -> Tensor:
        channels, *size = self.image_shape
        path = Path(str(self._paths[index]))
        with _opened(path) as image:
            pixels = self.preprocessing.apply(pixels_of(image, channels))
            if [pixels.height, pixels.width] != size:
                raise ValueError(f"it has become {pixels.height}x{pixels.width} pixels since it was found")
        array = torch.from_numpy(np.array(pixels))
        return array.unsqueeze(0) if channels == 1 else array.permute(2, 0, 1)


def read_header(path: Path) -> tuple[int, int, int]:
    """Return (channels: 1 or 3, height, width) of an image file, as a viewer shows it, without decoding its pixels.

    Raises:
        UserError: the file is not an image, or has pixels of another kind than 8 bits a channel or 16 bits of grey.
    """
    with _opened(path) as image:
        mode, (height, width) = image.mode, upright_size(image)
    if mode not in GREY_MODES | COLOUR_MODES:
        raise UserError(
            f"expected an image of 8 bits a channel, or grey of 16, in {path}, found one of Pillow's mode {mode}"
        )
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
        with Image.open(path, formats=FORMATS) as image:
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

    Pillow releases Python's global lock only while it decodes pixels: small images are faster in one thread, and
    several times slower in many. So one thread and then many are tried on some items each, and the faster takes the
    rest. This takes turns, since the first files that are read from a disk are the slowest.
    """
    results: list[_S] = []
    seconds = {False: 0.0, True: 0.0}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number in range(2 * _TURNS):
            threaded, some = number % 2 == 1, items[number * _TRIED : (number + 1) * _TRIED]
            began = time.monotonic()
            results += _in_pool(pool, function, some, os.cpu_count() or 1) if threaded else map(function, some)
            seconds[threaded] += time.monotonic() - began
        rest = items[2 * _TURNS * _TRIED :]
        if seconds[True] > _MOST_SHARE * seconds[False]:
            return results + [function(item) for item in rest]
        return results + _in_pool(pool, function, rest, math.ceil(len(rest) / _PART))


def _in_pool(pool: ThreadPoolExecutor, function: Callable[[_T], _S], items: Sequence[_T], parts: int) -> list[_S]:
    """Call a function in threads; one takes many items at once, as handing over one costs as much as a header."""
    size = max(1, math.ceil(len(items) / max(1, parts)))
    split = [items[start : start + size] for start in range(0, len(items), size)]
    of_parts = pool.map(lambda part: [function(item) for item in part], split)
    return [result for of_part in of_parts for result in of_part]


def fit_to(images: Tensor, size: Size, *, pad: bool) -> Tensor:
    """Pad or resize images.

    Args:
        images: uint8, shape (n, channels, height, width), square.
        size: height and width wanted, pixels.
        pad: pad smaller images with black on all sides; otherwise resize them bilinearly.

    Raises:
        UserError: they would take more than ``MOST_BYTES``.
    """
    missing = min(size) - images.shape[-1]
    if size == tuple(images.shape[2:]):
        return images
    if math.prod(images.shape[:2]) * math.prod(size) > MOST_BYTES:
        raise UserError(
            f"expected images that take at most {MOST_BYTES >> 30} GiB of memory together, found {len(images)} of "
            f"{size[0]}x{size[1]} pixels: lower --image_size"
        )
    if pad and missing > 0:
        before, after = missing // 2, missing - missing // 2
        return functional.pad(images, (before, after, before, after))
    return functional.interpolate(images, size=size, mode="bilinear", antialias=missing < 0)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Return uint8 images, shape (n, c, height, width), in 1 or 3 channels, weighted as Pillow does (ITU-R 601-2)."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16).to(torch.uint8).unsqueeze(1)
