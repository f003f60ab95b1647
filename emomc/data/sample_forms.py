"""The forms that the samples of a user's datasets may have."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emomc.common.errors import UserError, first_line
from emomc.data.images import COLOUR_MODES, GREY_MODES
from emomc.data.pairs import form_of, pair_of
from emomc.data.preprocessing import Preprocessing, pixels_of, upright_size


class Header(NamedTuple):
    """What an image is before it is preprocessed."""

    ready: bool
    """Whether it is an image of floats, for the network as it is."""
    channels: int
    height: int
    width: int


def read_sample(dataset: Any, index: int, name: str) -> tuple[Any, Any]:
    """Return the image and the label of a dataset's sample.

    Args:
        dataset: gives a sample for an index.
        index: of the sample.
        name: of the dataset, for the error.

    Raises:
        UserError: reading it fails, or it is neither a pair nor a mapping of both.
    """
    try:
        sample = dataset[index]
    except Exception as error:
        raise UserError(f"expected sample {index} of {name}, found an error: {first_line(error)}") from error
    return checked_pair(sample, index, name)


def checked_pair(sample: Any, index: int, name: str) -> tuple[Any, Any]:
    """Return the image and the label of a sample.

    Args:
        sample: from a dataset.
        index: of the sample, for the error.
        name: of the dataset, for the error.

    Raises:
        UserError: it is neither a pair nor a mapping of both.
    """
    pair = pair_of(sample)
    if pair is None:
        raise UserError(
            f"expected samples of {name} to be an image and a label, as a pair or under names such as image and label, "
            f"found {form_of(sample)} in sample {index}"
        )
    return pair


def header_of(given: Any, index: int, name: str) -> Header:
    """Return what an image is.

    Raises:
        UserError: it is none that can be read.
    """
    if isinstance(given, Image.Image) and given.mode in GREY_MODES | COLOUR_MODES:
        return Header(False, 1 if given.mode in GREY_MODES else 3, *upright_size(given))
    if isinstance(given, Tensor) and given.is_floating_point() and given.ndim == 3:
        channels, height, width = given.shape
        return Header(True, channels, height, width)
    array = _pixels(given)
    if array is None:
        raise UserError(
            f"expected images of {name} as Pillow's, as uint8 pixels of 1 or 3 channels, or as float tensors "
            f"(channels, height, width), found {image_form(given)} in sample {index}"
        )
    height, width, channels = array.shape
    return Header(False, channels, height, width)


def _pixels(given: Any) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Return uint8 pixels of shape (height, width, 1 or 3): those of a tensor have their channels first."""
    if isinstance(given, Tensor) and given.dtype == torch.uint8:
        array = given.numpy() if given.ndim == 2 else given.permute(1, 2, 0).numpy() if given.ndim == 3 else None
    elif isinstance(given, np.ndarray) and given.dtype == np.uint8:
        array = given
    else:
        return None
    if array is not None and array.ndim == 2:
        array = array[:, :, None]
    return array if array is not None and array.ndim == 3 and array.shape[2] in (1, 3) else None


def preprocessed(given: Any, channels: int, preprocessing: Preprocessing) -> Tensor | None:
    """Return an image of pixels as uint8 (channels, height, width); None if it is no image of pixels.

    Raises:
        UserError: it is too small for the crop, or too large.
    """
    if isinstance(given, Image.Image):
        image = given
    else:
        array = _pixels(given)
        if array is None:
            return None
        image = Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))
    preprocessing.size_of(*upright_size(image))
    made = torch.from_numpy(np.array(preprocessing.apply(pixels_of(image, channels))))
    return made.unsqueeze(0) if channels == 1 else made.permute(2, 0, 1)


def image_form(given: Any) -> str:
    """Return what an image is, in words, for an error."""
    if isinstance(given, Image.Image):
        return f"one of Pillow's mode {given.mode}"
    if isinstance(given, (Tensor, np.ndarray)):
        return f"{given.dtype} of shape {tuple(given.shape)}"
    return type(given).__name__
