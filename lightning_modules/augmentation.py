"""Random changes of training images, a batch at a time, on the batch's device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def shift_and_mirror(images: Tensor, margin: int, *, mirror: bool) -> Tensor:
    """Shift every image by its own random number of pixels, and mirror half of them.

    What is shifted in is black. The random numbers come from torch's default CPU generator whatever the device is, so
    that a seed means the same on all.

    Args:
        images: uint8 or float pixels with 0 as black, shape (n, channels, height, width).
        margin: most pixels up, down, left and right, 0 or more.
        mirror: exchange left and right with probability one half.

    Returns:
        A new tensor of the same shape, dtype and device.
    """
    count, _, height, width = images.shape
    vertical, horizontal = torch.randint(0, 2 * margin + 1, (2, count, 1))
    rows = vertical + torch.arange(height)
    columns = horizontal + torch.arange(width)
    if mirror:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    padded = functional.pad(images, (margin,) * 4)
    # One gather for shift and mirror: (n, 1, height, 1) rows and (n, 1, 1, width) columns of each image.
    rows, columns = rows.to(images.device), columns.to(images.device)
    image = torch.arange(count, device=images.device).view(-1, 1, 1)
    channels_last = padded.permute(0, 2, 3, 1)
    return channels_last[image, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
