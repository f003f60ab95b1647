"""Random augmentation of training images, one batch at a time, on the batch's device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from emomc.data.config import Augmentation

# torchvision's reference training of ImageNet crops and changes images so. Sources: Szegedy et al., "Going Deeper with
# Convolutions", CVPR 2015, section 6; Cubuk et al., "RandAugment", NeurIPS 2020, of which these are the usual numbers.
_AREA, _SHAPE = (0.08, 1.0), (3 / 4, 4 / 3)
_CHANGES, _MAGNITUDE = 2, 9


def augmented(images: Tensor, kind: Augmentation, margin: int, *, mirror: bool) -> Tensor:
    """Change every image at random.

    The random numbers come from torch's default generators: that of the images' device for shifts and mirroring, that
    of the CPU for the others.

    Args:
        images: uint8, shape (n, channels, height, width), 1 or 3 channels.
        kind: how; see ``DataConfig.augment``.
        margin: largest shift, pixels; see ``shift_and_mirror``.
        mirror: exchange left and right with probability one half.

    Returns:
        A tensor of the same shape, dtype and device.
    """
    if kind == "none":
        return images
    if kind == "random_resized_crop":
        cut = _each(images, _cutouts(*images.shape[-2:]))
        return shift_and_mirror(cut, 0, mirror=True) if mirror else cut
    shifted = shift_and_mirror(images, margin, mirror=mirror)
    return shifted if kind == "shift" else _each(shifted, _changes())


def _cutouts(height: int, width: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # takes a second to import

    change: Callable[[Tensor], Tensor] = v2.RandomResizedCrop(
        (height, width), scale=_AREA, ratio=_SHAPE, antialias=True
    )
    return change


def _changes() -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    change: Callable[[Tensor], Tensor] = v2.RandAugment(_CHANGES, _MAGNITUDE)
    return change


def _each(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change one image after the other: torchvision changes all images of a batch alike."""
    return torch.stack([change(image) for image in images])


def shift_and_mirror(images: Tensor, margin: int, *, mirror: bool) -> Tensor:
    """Shift every image by its own random number of pixels, and mirror half of them.

    Pixels shifted in are black. The random numbers come from torch's default generator of the images' device, so that
    nothing is copied to a GPU for each batch; another kind of device gives other images for the same seed.

    Args:
        images: uint8 or float pixels with 0 as black, shape (n, channels, height, width).
        margin: largest shift up, down, left and right, pixels, 0 or more.
        mirror: exchange left and right with probability one half.

    Returns:
        A new tensor of the same shape, dtype and device.
    """
    count, channels, height, width = images.shape
    device = images.device
    vertical, horizontal = torch.randint(0, 2 * margin + 1, (2, count, 1), device=device)
    rows = vertical + torch.arange(height, device=device)
    columns = horizontal + torch.arange(width, device=device)
    if mirror:
        columns = torch.where(torch.rand(count, 1, device=device) < 0.5, columns.flip(1), columns)
    padded = functional.pad(images, (margin,) * 4)
    # One gather shifts and mirrors. Source position of each pixel in its padded image: (n, height x width).
    source = (rows.unsqueeze(2) * padded.shape[-1] + columns.unsqueeze(1)).flatten(1)
    changed = padded.flatten(2).gather(2, source.unsqueeze(1).expand(-1, channels, -1))
    return changed.view(images.shape)
