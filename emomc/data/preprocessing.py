"""How the pixels of an image become what a network takes: orientation, size, channels, mean and deviation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from emomc.common.errors import UserError, first_line
from emomc.data.config import DataConfig, Interpolation

MOST_PIXELS = 89_478_485
"""Pixels of an image, at most: 256 MiB as RGB. Pillow warns of larger ones."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB pixels in 0..1; the paper's code normalises CIFAR-10 with these, and torchvision's weights expect them."""

Size = tuple[int, int]
"""Height and width, pixels."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to every image; None: what suits the images."""

    channels: int | None = None
    """1: grey; 3: red, green and blue."""
    size: Size | None = None
    """To resize to, whatever the shape was."""
    resize: int | None = None
    """Length of the shorter side to resize to, in proportion."""
    crop: Size | None = None
    """The middle of the image, after it was resized."""
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] | None = None
    """Per channel, of pixels in 0..1."""
    std: tuple[float, ...] | None = None
    """Per channel, of pixels in 0..1."""

    def size_of(self, height: int, width: int) -> Size:
        """Return the size of an image after preprocessing.

        Raises:
            UserError: it is too small for the crop, or too large.
        """
        found = self._resized(height, width)
        if math.prod(found) > MOST_PIXELS:
            raise UserError(
                f"expected images of at most {MOST_PIXELS} pixels after resizing, found one of {found[0]}x{found[1]}"
            )
        if self.crop is None:
            return found
        if self.crop[0] > found[0] or self.crop[1] > found[1]:
            raise UserError(
                f"expected images of at least the crop of {self.crop[0]}x{self.crop[1]} pixels (height x width), found "
                f"one of {found[0]}x{found[1]}: set a larger --resize or a smaller --crop"
            )
        return self.crop

    def apply(self, image: Image.Image) -> Image.Image:
        """Return an image resized and cropped, as torchvision's ``Resize`` and ``CenterCrop`` do; colours stay."""
        height, width = self._resized(image.height, image.width)
        if image.size != (width, height):
            image = image.resize((width, height), _RESAMPLING[self.interpolation])
        if self.crop is None:
            return image
        top, left = (round((whole - part) / 2.0) for whole, part in zip((height, width), self.crop, strict=True))
        return image.crop((left, top, left + self.crop[1], top + self.crop[0]))

    def _resized(self, height: int, width: int) -> Size:
        if self.size is not None:
            return self.size
        if self.resize is None:
            return height, width
        longer = int(self.resize * max(height, width) / min(height, width))
        return (self.resize, longer) if height <= width else (longer, self.resize)


_RESAMPLING: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

PRESETS: Mapping[str, Preprocessing] = {
    "imagenet": Preprocessing(3, resize=256, crop=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "cifar10": Preprocessing(3, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    "mnist": Preprocessing(1, mean=(0.1307,), std=(0.3081,)),
}
"""Name -> what weights of that name usually expect: torchvision's evaluation of ImageNet; statistics of the training
images of CIFAR-10 and of MNIST without a frame, as PyTorch's examples have them."""


def preprocessing_of(config: DataConfig) -> Preprocessing:
    """Return the preprocessing of the settings: that of the preset, with what is set beside it.

    Raises:
        UserError: there is no such preset, or its package is not installed.
    """
    preset = Preprocessing() if config.preset is None else _preset(config.preset)
    given: dict[str, Any] = {
        "channels": config.channels,
        "size": parse_size(config.image_size),
        "resize": config.resize,
        "crop": parse_size(config.crop),
        "interpolation": config.interpolation,
        "mean": config.mean,
        "std": config.std,
    }
    if config.image_size is not None:
        # One size takes the place of the preset's resizing.
        preset = dataclasses.replace(preset, resize=None, crop=None)
    return dataclasses.replace(preset, **{key: value for key, value in given.items() if value is not None})


def parse_size(size: int | str | None) -> Size | None:
    """Return (height, width) of a size such as 32 or 48x64."""
    if size is None:
        return None
    height, _, width = str(size).partition("x")
    return int(height), int(width or height)


def _preset(name: str) -> Preprocessing:
    kind, _, model = name.partition(":")
    if model and kind in _FROM_PACKAGES:
        return _FROM_PACKAGES[kind](model)
    if name not in PRESETS:
        raise UserError(f"expected a preset among {', '.join(PRESETS)}, timm:NAME or torchvision:WEIGHTS, found {name}")
    return PRESETS[name]


def _of_timm(name: str) -> Preprocessing:
    """Return the evaluation that timm states for pretrained weights; nothing is downloaded."""
    try:
        import timm
    except ImportError:
        raise UserError("expected the package timm for a preset timm:NAME, found none: pip install timm") from None
    try:
        found = timm.get_pretrained_cfg(name)
    except Exception as error:
        raise UserError(f"expected a preset timm:NAME of a model of timm, found {name}: {first_line(error)}") from error
    if found is None:
        raise UserError(f"expected a preset timm:NAME of a model of timm, found {name}")
    channels, height, width = found.input_size
    if found.crop_mode != "center" or height != width or found.interpolation not in _RESAMPLING:
        raise UserError(
            f"expected a preset whose crop is a square in the middle, found timm:{name}: set --resize and --crop"
        )
    resize = math.floor(height / found.crop_pct)
    interpolation = cast(Interpolation, found.interpolation)
    return Preprocessing(channels, None, resize, (height, width), interpolation, found.mean, found.std)


def _of_torchvision(name: str) -> Preprocessing:
    """Return the transforms of weights of torchvision; nothing is downloaded."""
    from torchvision.models import get_weight

    try:
        found = get_weight(name).transforms()
        (resize,), (crop,) = found.resize_size, found.crop_size
        mean, std = tuple(map(float, found.mean)), tuple(map(float, found.std))
    except Exception as error:
        raise UserError(
            f"expected a preset torchvision:WEIGHTS of a classifier, such as torchvision:ResNet18_Weights.DEFAULT, "
            f"found {name}: {first_line(error)}"
        ) from error
    interpolation = cast(Interpolation, found.interpolation.value)
    return Preprocessing(3, None, resize, (crop, crop), interpolation, mean, std)


_FROM_PACKAGES: Mapping[str, Callable[[str], Preprocessing]] = {"timm": _of_timm, "torchvision": _of_torchvision}

# Exif's tag, and what turns an image that has a value as a viewer shows it. Source: Exif 2.3, table 4, tag 274.
_ORIENTATION = 0x0112
_TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})

SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's modes of grey images with 16 bits a pixel."""


def orientation(image: Image.Image) -> int:
    """Return how an image lies, 1..8, as its header says; 1 if it says nothing."""
    # To ask a PNG would decode it, if the entry does not stand before the pixels.
    known = image.info.get("exif") is not None if image.format == "PNG" else True
    found = image.getexif().get(_ORIENTATION, 1) if known else 1
    return found if found in _TURNS else 1


def upright_size(image: Image.Image) -> Size:
    """Return height and width of an image as a viewer shows it; its pixels are not decoded."""
    width, height = image.size
    if isinstance(image, TiffImageFile):
        # Some versions of Pillow turn the size when the file is opened, others when it is decoded.
        width, height = int(image.tag_v2[IMAGEWIDTH]), int(image.tag_v2[IMAGELENGTH])
    return (width, height) if orientation(image) in _ON_ITS_SIDE else (height, width)


def pixels_of(image: Image.Image, channels: int) -> Image.Image:
    """Return an image as a viewer shows it, grey or in colour, 8 bits a channel."""
    if isinstance(image, TiffImageFile):
        # Pillow turns these itself, and only these.
        image.load()
    turn = _TURNS.get(orientation(image))
    if image.mode in SIXTEEN_BIT_MODES:
        # 0..65535 becomes 0..255.
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    shown = image.convert("L" if channels == 1 else "RGB")
    return shown if turn is None else shown.transpose(turn)
