"""The labels of a user's datasets, and the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from emomc.common.errors import UserError
from emomc.data.pairs import LABEL_KEYS
from emomc.data.sample_forms import read_sample


def labels_of(dataset: Any, name: str) -> Tensor:
    """Return the label of every sample, int64; the images are read only if there is no list of labels."""
    found = _list_of_labels(dataset)
    if found is None or len(found) != len(dataset):
        found = [read_sample(dataset, index, name)[1] for index in range(len(dataset))]
    numbers = [_plain(label) for label in found]
    for index, label in enumerate(numbers):
        if not isinstance(label, int) or isinstance(label, bool):
            raise UserError(f"expected whole numbers as labels of {name}, found {label!r} in sample {index}")
    return torch.tensor(numbers, dtype=torch.int64)


def _plain(label: Any) -> Any:
    """Return the number in a tensor or an array without dimensions; other labels as they are."""
    return label.item() if isinstance(label, (Tensor, np.generic, np.ndarray)) and label.ndim == 0 else label


def _list_of_labels(dataset: Any) -> Sequence[Any] | None:
    """Return the labels that a dataset has beside its images, as torchvision's and Hugging Face's have."""
    if isinstance(dataset, list):
        return [label for _, label in dataset]
    if isinstance(dataset, Subset):
        labels = _list_of_labels(dataset.dataset)
        return None if labels is None else [labels[index] for index in dataset.indices]
    if isinstance(getattr(dataset, "column_names", None), list):
        keys = [key for key in LABEL_KEYS if key in dataset.column_names]
        return list(dataset[keys[0]]) if len(keys) == 1 else None
    targets = getattr(dataset, "targets", None)
    # A transform of labels changes what the samples have.
    plain = isinstance(dataset, Dataset) and getattr(dataset, "target_transform", None) is None
    return list(targets) if plain and isinstance(targets, (list, Tensor, np.ndarray)) else None


def class_names_of(dataset: Any, labels: Tensor) -> tuple[str, ...]:
    """Return the names of classes that a dataset knows; else the numbers up to its highest label."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        named = [getattr(features[key], "names", None) for key in LABEL_KEYS if key in features]
        if len(named) == 1 and named[0]:
            return tuple(map(str, named[0]))
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, (list, tuple)) and classes:
        return tuple(map(str, classes))
    return tuple(str(label) for label in range(int(labels.max()) + 1))
