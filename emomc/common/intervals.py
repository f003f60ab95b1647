"""Confidence intervals of measured accuracies, and of what a network loses against another."""

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


def loss_bound(before: int, after: int, images: int, *, compared: int = 1) -> float:
    """Return how much accuracy a network loses at most against another, as far as the same images can tell.

    It is the loss on these images plus one standard error of the difference, or more of them if the network is one of
    several: the bound then holds for all of them together with the same probability, 84 %.

    The standard error of a difference on the same images is sqrt(b + c - (b - c)^2 / n) / n, where b images are right
    before only and c after only. The counts of right answers give b - c. Of b + c they give the largest possible value,
    which is taken: no image is wrong before and after. Half an image is added to each of the four counts of right and
    wrong answers, so that few images without an error do not seem certain.

    It grows with the loss for networks that are right at least as often as wrong.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in
    Medicine 24(5), 2005; for several networks: Sidak, "Rectangular confidence regions for the means of multivariate
    normal distributions", JASA 62(318), 1967, which holds however their errors depend on each other.

    Args:
        before: images that the other network, such as the uncompressed one, classified correctly, 0..images.
        after: images that the network classified correctly, 0..images.
        images: images that both classified, 1 or more.
        compared: networks of which this one may be chosen for its accuracy, 1 or more.

    Returns:
        A fraction of the images; negative if the network is surely better.

    Raises:
        ValueError: a count is out of range.
    """
    if not (0 <= before <= images and 0 <= after <= images and images >= 1 and compared >= 1):
        raise ValueError(
            f"expected counts of 0..images, images >= 1 and compared >= 1, found {before} and {after} of {images}, "
            f"compared {compared}"
        )
    normal = NormalDist()
    deviations = normal.inv_cdf(normal.cdf(1.0) ** (1 / compared))
    lost, all_images = before - after, images + 2
    wrong = 2 * images - before - after
    differing = min(wrong, 2 * images - wrong) + 1
    return (lost + deviations * math.sqrt(differing - lost * lost / all_images)) / all_images
