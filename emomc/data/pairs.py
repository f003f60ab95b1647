"""The image and the label of a sample, or of a batch of samples, in the forms that people give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "input", "inputs")
LABEL_KEYS = ("label", "labels", "target", "targets", "y", "fine_label")
"""Names of the two in samples that are mappings, as those of Hugging Face's datasets are."""


def pair_of(given: Any) -> tuple[Any, Any] | None:
    """Return the image and the label of a sample or a batch: a pair, or a mapping with one name of each kind.

    Returns:
        None if it has neither form.
    """
    if isinstance(given, Mapping):
        images, labels = ([key for key in keys if key in given] for keys in (IMAGE_KEYS, LABEL_KEYS))
        return (given[images[0]], given[labels[0]]) if len(images) == len(labels) == 1 else None
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return given[0], given[1]
    return None


def form_of(given: Any) -> str:
    """Return what a sample or a batch is, in words, for an error."""
    if isinstance(given, Mapping):
        return f"a mapping of {', '.join(map(str, given)) or 'nothing'}"
    if isinstance(given, (tuple, list)):
        return f"a {type(given).__name__} of {', '.join(type(part).__name__ for part in given) or 'nothing'}"
    return f"a {type(given).__name__}"
