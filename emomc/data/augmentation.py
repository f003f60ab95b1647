"""Random augmentation of training images, one batch at a time, on the batch's device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
