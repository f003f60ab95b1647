"""Folders of images: DIR/train/CLASS/... and, where there are any, val and test."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from emomc.common.errors import UserError, UserNote
from emomc.data.image_dataset import ImageDataset
from emomc.data.images import SUFFIXES, FileImages, in_threads, is_readable, read_header
from emomc.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

FOLDER_PREFIX = "imagefolder:"
VALIDATION_NAMES = ("val", "valid", "validation")
"""Names that a folder of validation images has."""

# Files of file managers; hidden files are not seen either.
_UNSEEN = frozenset({"Thumbs.db", "desktop.ini"})
# Kinds of files that are named in a note of what was left out.
_NAMED_KINDS = 5


def load_image_folder(folder: Path, preprocessing: Preprocessing, *, skip_unreadable: bool) -> ImageDataset:
    """Find the images of a folder; they are decoded when they are read.

    Images may lie at any depth below the folder of their class. Without validation images, some will be held out of
    the training images. What is left out is said.

    Args:
        folder: holds ``train``, and may hold ``test`` and one of ``VALIDATION_NAMES``: each with a folder for each
            class.
        preprocessing: of every image.
        skip_unreadable: leave out files that cannot be decoded, and say how many; without it the first is an error.

    Raises:
        UserError: the folder does not have the expected classes and images, or they get no common shape.
    """
    parts = _parts(folder)
    class_names = _classes(parts["train"])
    files: dict[str, list[list[Path]]] = {name: [] for name in parts}
    others: list[Path] = []
    for name, part in parts.items():
        _check_classes(folder, class_names, part)
        for label in class_names:
            images, left = _sorted_out(part / label)
            files[name].append(_readable(images) if skip_unreadable else images)
            others += left
    _note_left_out(folder, parts, others)
    paths = {name: [path for of_class in of_part for path in of_class] for name, of_part in files.items()}
    shape = _common_shape(folder, [path for of_part in paths.values() for path in of_part], preprocessing)
    found = {
        name: FileImages(paths[name], _labels([len(of_class) for of_class in files[name]]), shape, preprocessing)
        for name in parts
    }
    mean, std = ((0.449,), (0.226,)) if shape[0] == 1 else (IMAGENET_MEAN, IMAGENET_STD)
    return ImageDataset(found["train"], found.get("test"), class_names, mean, std, validation=found.get("validation"))


def _labels(counts: Sequence[int]) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _parts(folder: Path) -> dict[str, Path]:
    """Return part (train, validation, test) -> its folder."""
    if not (folder / "train").is_dir():
        raise UserError(f"expected a folder of images with one folder for each class at {folder}/train, found none")
    validation = [folder / name for name in VALIDATION_NAMES if (folder / name).is_dir()]
    if len(validation) > 1:
        names = " and ".join(path.name for path in validation)
        raise UserError(f"expected one folder of validation images in {folder}, found {names}")
    parts = {"train": folder / "train"}
    if validation:
        parts["validation"] = validation[0]
    if (folder / "test").is_dir():
        parts["test"] = folder / "test"
    return parts


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "no classes"
        raise UserError(f"expected a folder for each of at least 2 classes in {folder}, found {found}")
    return tuple(names)


def _check_classes(folder: Path, class_names: Sequence[str], part: Path) -> None:
    found = _classes(part)
    for missing, where in (({*class_names} - {*found}, part.name), ({*found} - {*class_names}, "train")):
        if missing:
            raise UserError(
                f"expected the same classes in {folder}/train and {folder}/{part.name}, found none of "
                f"{', '.join(sorted(missing))} in {where}"
            )


def _sorted_out(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the image files of a class, sorted, and its other files."""
    images: list[Path] = []
    others: list[Path] = []
    for path in _below(folder):
        (images if path.suffix.lower() in SUFFIXES else others).append(path)
    if not images:
        raise UserError(f"expected images in {folder}, found none")
    return sorted(images), others


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, without hidden ones; a folder that is linked to more than once counts once."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent).stat()
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in names if _is_seen(name))


def _note_left_out(folder: Path, parts: Mapping[str, Path], others: Sequence[Path]) -> None:
    """Say which files are no images, which lie outside the folder of a class, and which folders are not used.

    Args:
        folder: of all parts.
        parts: part -> its folder.
        others: files in the folders of classes that are no images.
    """
    if others:
        _note(f"left out files of {folder} that are no images: {_kinds(others)}")
    outside = [path for part in parts.values() for path in part.iterdir() if not path.is_dir() and _is_seen(path.name)]
    if outside:
        _note(f"left out files of {folder} that lie in no class: {_kinds(outside)}")
    used = {part.name for part in parts.values()}
    unused = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if unused := [name for name in unused if name not in used]:
        _note(
            f"left out folders of {folder} that are none of train, {', '.join(VALIDATION_NAMES)} and test: "
            f"{', '.join(unused[:_NAMED_KINDS])}" + (", ..." if len(unused) > _NAMED_KINDS else "")
        )


def _is_seen(name: str) -> bool:
    return not name.startswith(".") and name not in _UNSEEN


def _kinds(paths: Iterable[Path]) -> str:
    """Return how many files there are of each suffix, the most frequent first."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    named = [f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    more = f" and {len(named) - _NAMED_KINDS} other kinds" if len(named) > _NAMED_KINDS else ""
    return ", ".join(named[:_NAMED_KINDS]) + more


def _readable(paths: list[Path]) -> list[Path]:
    """Leave out the files of a class that cannot be decoded, with a warning.

    Raises:
        UserError: no file is left.
    """
    readable = in_threads(is_readable, paths)
    broken = [path for path, good in zip(paths, readable, strict=True) if not good]
    if len(broken) == len(paths):
        raise UserError(f"expected images in {paths[0].parent}, found none that can be decoded")
    if broken:
        _note(f"left out images that cannot be decoded: {len(broken)} in {broken[0].parent}, such as {broken[0].name}")
    return [path for path, good in zip(paths, readable, strict=True) if good]


def _note(text: str) -> None:
    warnings.warn(text, UserNote, stacklevel=2)


def _common_shape(folder: Path, paths: list[Path], preprocessing: Preprocessing) -> tuple[int, int, int]:
    """Return the shape of all images after preprocessing: colour if any image is, unless that is set."""
    headers = in_threads(read_header, paths)
    channels = preprocessing.channels or max(channels for channels, _, _ in headers)
    sizes = Counter(preprocessing.size_of(height, width) for _, height, width in headers)
    if len(sizes) > 1:
        (common, _), (other, _) = sizes.most_common(2)
        example = next(
            path for path, (_, *size) in zip(paths, headers, strict=True) if preprocessing.size_of(*size) == other
        )
        raise UserError(
            f"expected images of one size in {folder}, or --image_size or --crop to make them so, found "
            f"{common[0]}x{common[1]} and {other[0]}x{other[1]} (height x width; {example.relative_to(folder)})"
        )
    ((height, width),) = sizes
    return channels, height, width
