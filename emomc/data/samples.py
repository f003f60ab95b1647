"""Datasets of a user's own, read sample by sample: of torch, torchvision or Hugging Face.

A sample is a pair or a mapping of an image and a label. An image of pixels (of Pillow, or uint8) is preprocessed and
augmented as the files of a folder are. An image of floats is what a transform has made for the network: it is taken as
it is, and read again in every epoch, since the transform may draw random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emomc.common.errors import UserError, first_line
from emomc.data.config import PREPROCESSING, DataConfig
from emomc.data.image_dataset import ImageDataset
from emomc.data.images import ArrayImages
from emomc.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from emomc.data.sample_forms import checked_pair, header_of, image_form, preprocessed, read_sample
from emomc.data.sample_labels import class_names_of, labels_of

ITERABLE_LIMIT_BYTES = 4 * 2**30
"""Memory that the samples of a dataset without indices may take; they are read once."""

_SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Names of splits -> ours."""


class SampleImages:
    """The images of a user's dataset, read when they are needed.

    Args:
        dataset: gives a sample for an index.
        name: of the dataset, for errors.
        indices: int64, shape (n,), of the samples.
        labels: int64, shape (n,).
        image_shape: (channels, height, width) of every image after preprocessing.
        preprocessing: of images of pixels; None: the images are floats, and taken as they are.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        indices: Tensor,
        labels: Tensor,
        image_shape: tuple[int, int, int],
        preprocessing: Preprocessing | None,
    ) -> None:
        self._dataset = dataset
        self._name = name
        self._indices = indices
        self.labels = labels
        self.image_shape = image_shape
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.stack([self._read(int(index)) for index in indices])
        return images, self.labels[indices]

    def subset(self, indices: Tensor) -> SampleImages:
        """Return some of the images, in the order of ``indices``."""
        chosen = self._indices[indices], self.labels[indices]
        return SampleImages(self._dataset, self._name, *chosen, self.image_shape, self.preprocessing)

    def decoded(self) -> ArrayImages:
        """Read every image."""
        kind = torch.float32 if self.preprocessing is None else torch.uint8
        images = torch.empty((len(self), *self.image_shape), dtype=kind)
        for position in range(len(self)):
            images[position] = self._read(position)
        return ArrayImages(images, self.labels)

    def _read(self, position: int) -> Tensor:
        index = int(self._indices[position])
        given, _ = read_sample(self._dataset, index, self._name)
        if self.preprocessing is None:
            made = given.float() if isinstance(given, Tensor) and given.is_floating_point() else None
        else:
            made = preprocessed(given, self.image_shape[0], self.preprocessing)
        if made is None or made.shape != self.image_shape:
            found = image_form(given) if made is None else f"an image that becomes {tuple(made.shape)}"
            raise UserError(
                f"expected images like the first one, of shape {self.image_shape}, in {self._name}, found {found} in "
                f"sample {index}"
            )
        return made


def load_samples(given: Any, config: DataConfig, preprocessing: Preprocessing) -> ImageDataset:
    """Return the images of a user's datasets.

    Args:
        given: a mapping of the names of splits (``train``, and ``validation`` and ``test`` where there are any) to
            datasets, and ``class_names`` where the datasets do not say them; or the datasets as a pair or a triple, of
            which all but the first may be None.
        config: settings of the data; ``config.dataset`` is their name.
        preprocessing: of images of pixels.

    Raises:
        UserError: it has another form, a sample cannot be read or has another form, or the images get no common shape.
    """
    parts, class_names = _parts(given, config.dataset)
    names = {split: f"the {split} dataset of {config.dataset}" for split in parts}
    datasets = {split: _indexed(dataset, names[split]) for split, dataset in parts.items()}
    ready, shape = _common_form(datasets, names, preprocessing)
    if ready:
        _refuse_preprocessing(config)
    labels = {split: labels_of(dataset, names[split]) for split, dataset in datasets.items()}
    class_names = class_names or class_names_of(parts["train"], labels["train"])
    if len(class_names) < 2:
        raise UserError(f"expected at least 2 classes in {names['train']}, found {len(class_names)}")
    used = None if ready else preprocessing
    found = {
        split: SampleImages(dataset, names[split], torch.arange(len(dataset)), labels[split], shape, used)
        for split, dataset in datasets.items()
    }
    mean, std = ((0.449,), (0.226,)) if shape[0] == 1 else (IMAGENET_MEAN, IMAGENET_STD)
    return ImageDataset(
        found["train"],
        found.get("test"),
        class_names,
        None if ready else mean,
        None if ready else std,
        validation=found.get("validation"),
    )


def _parts(given: Any, spec: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return split -> dataset, and the names of classes if they are given."""
    if isinstance(given, Mapping):
        named = {str(key): value for key, value in given.items()}
        class_names = tuple(map(str, named.pop("class_names", ())))
        unknown = [key for key in named if key not in _SPLITS]
        if unknown:
            raise UserError(
                f"expected {spec} to return datasets named {', '.join(_SPLITS)}, and class_names, found {unknown[0]!r}"
            )
        if len({_SPLITS[key] for key in named}) < len(named):
            raise UserError(f"expected {spec} to return one dataset of validation images, found {', '.join(named)}")
        parts = {_SPLITS[key]: dataset for key, dataset in named.items() if dataset is not None}
    else:
        class_names = ()
        parts = dict(zip(("train", "validation", "test"), given, strict=False))
        parts = {split: dataset for split, dataset in parts.items() if dataset is not None}
    if "train" not in parts:
        raise UserError(f"expected {spec} to return a dataset of training images, found none")
    return parts, class_names


def _indexed(dataset: Any, name: str) -> Any:
    """Return a dataset that gives samples for indices; one that only gives one after the other is read into memory."""
    if isinstance(dataset, Sized) and hasattr(dataset, "__getitem__"):
        found = dataset
    elif isinstance(dataset, Iterable):
        found = _read_once(dataset, name)
    else:
        raise UserError(f"expected {name} to be a dataset with samples, found {type(dataset).__name__}")
    if not len(found):
        raise UserError(f"expected at least one sample in {name}, found none")
    return found


def _read_once(dataset: Iterable[Any], name: str) -> list[Any]:
    samples: list[Any] = []
    held_bytes = 0
    for sample in _checked_iteration(dataset, name):
        pair = checked_pair(sample, len(samples), name)
        samples.append(pair)
        header = header_of(pair[0], len(samples) - 1, name)
        held_bytes += math.prod(header[1:]) * (4 if header.ready else 1)
        if held_bytes > ITERABLE_LIMIT_BYTES:
            raise UserError(
                f"expected {name}, which has no indices and is read once, to have images of at most "
                f"{ITERABLE_LIMIT_BYTES >> 30} GiB, found more: give it a length and __getitem__"
            )
    return samples


def _checked_iteration(dataset: Iterable[Any], name: str) -> Iterator[Any]:
    try:
        yield from dataset
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"expected samples of {name}, found an error: {first_line(error)}") from error


class _Form(NamedTuple):
    """What all images of a dataset have in common."""

    ready: bool
    """Whether they are floats, for the network as they are."""
    channels: int | None
    """Of floats."""
    height: int
    width: int

    def __str__(self) -> str:
        kind = f"floats of {self.channels} channels and" if self.ready else "pixels of"
        return f"{kind} {self.height}x{self.width} (height x width)"


def _common_form(
    datasets: Mapping[str, Any], names: Mapping[str, str], preprocessing: Preprocessing
) -> tuple[bool, tuple[int, int, int]]:
    """Return whether the images are floats, and their shape after preprocessing.

    Every image is looked at, unless the preprocessing makes all alike; one that is not is then found when it is read.
    """
    first: _Form | None = None
    channels = 0
    alike = bool(preprocessing.channels and (preprocessing.crop or preprocessing.size))
    for split, dataset in datasets.items():
        for index in range(1 if alike else len(dataset)):
            header = header_of(read_sample(dataset, index, names[split])[0], index, names[split])
            size = header[2:] if header.ready else preprocessing.size_of(*header[2:])
            form = _Form(header.ready, header.channels if header.ready else None, *size)
            first = first or form
            if form != first:
                raise UserError(
                    f"expected images like the first one, {first}, in {names[split]}, or --image_size or --crop to "
                    f"make them so, found {form} in sample {index}"
                )
            # Grey images among images in colour become colour.
            channels = max(channels, header.channels)
    assert first is not None  # every dataset has a sample
    return first.ready, (channels if first.ready else preprocessing.channels or channels, first.height, first.width)


def _refuse_preprocessing(config: DataConfig) -> None:
    given = [name for name in PREPROCESSING if getattr(config, name) is not None]
    if given:
        raise UserError(
            f"expected images of {config.dataset} as pixels (of Pillow, or uint8) with --{given[0]}, found images of "
            f"floats, which are taken as they are"
        )
