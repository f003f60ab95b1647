"""On how many images the layers of a network are measured one by one."""

from __future__ import annotations

MOST, LEAST = 512, 32
"""Images that are measured on: of a network of few layers, and of one of many."""
_IMAGES_AND_LAYERS = 2560


def images_to_measure(layers: int) -> int:
    """Return how many images to measure on: for more than 5 layers fewer, so that the time depends little on them.

    Each layer is changed in more than ten ways, and the network runs once on all the images for each of them: with 512
    images and 50 layers that would take longer than many epochs of training.

    Args:
        layers: of the network, 1 or more.

    Returns:
        ``LEAST`` to ``MOST``.
    """
    return max(min(LEAST, MOST), min(MOST, _IMAGES_AND_LAYERS // layers))
