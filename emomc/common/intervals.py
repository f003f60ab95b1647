"""Confidence intervals of measured accuracies."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(correct: int, images: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of the accuracy, given how many images were classified correctly.

    Unlike the normal approximation, it stays within 0..1 and is reliable near 0 and 1 and for few images.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22(158), 1927.

    Args:
        correct: images that were classified correctly, 0..images.
        images: images that were classified, 1 or more.
        confidence: share of such intervals that contain the true accuracy, 0 < confidence < 1.

    Returns:
        Lower and upper end, fractions in 0..1.

    Raises:
        ValueError: a count or the confidence is out of range.
    """
    if not 0 <= correct <= images or images < 1:
        raise ValueError(f"expected 0 <= correct <= images and images >= 1, found {correct} of {images}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / images
    scale = 1 + z * z / images
    centre = (share + z * z / (2 * images)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    # At both ends the formula gives 0 and 1 except for rounding errors.
    return (0.0 if correct == 0 else max(0.0, centre - half)), (1.0 if correct == images else min(1.0, centre + half))
