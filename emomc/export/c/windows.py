"""Windows that move over maps, as layers and pooling have them."""

from __future__ import annotations

import math
from typing import Any

from emomc.export.c.program import Structure
from emomc.export.c.scope import pair


def padding_before(
    padding: Any, dimensions: int, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    """Return the rows and columns of padding before the first pixel."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        # What does not divide evenly comes after the last pixel.
        return dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    y, x = pair(padding, dimensions)
    return (0, x) if dimensions == 1 else (y, x)


def window_fields(
    size: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> dict[str, int]:
    """Return the fields of a ``window_shape`` without padding; a map of one dimension has the height 1."""
    return {
        "height": math.prod(size[:-1]),
        "width": size[-1],
        "out_height": math.prod(out[:-1]),
        "out_width": out[-1],
        "kernel_y": kernel[0],
        "kernel_x": kernel[1],
        "stride_y": stride[0],
        "stride_x": stride[1],
        "dilation_y": dilation[0],
        "dilation_x": dilation[1],
    }


def window_shape(fields: dict[str, int]) -> Structure:
    """Return the structure of these fields."""
    return Structure("window_shape", tuple(fields.items()))
