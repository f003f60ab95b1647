"""Folders of images: DIR/train/CLASS/* and DIR/test/CLASS/*."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import torch

from emomc.common.errors import UserError, UserNote
from emomc.data.image_dataset import IMAGENET_MEAN, IMAGENET_STD, ImageDataset
from emomc.data.images import FileImages, in_threads, is_readable, read_header

FOLDER_PREFIX = "imagefolder:"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Suffixes of image files; other files in the folder of a class are ignored."""


def load_image_folder(folder: Path, image_size: int | None, *, skip_unreadable: bool) -> ImageDataset:
    """Find the images of a folder; they are decoded when they are read.

    Args:
        folder: holds ``train/CLASS/*`` and ``test/CLASS/*``.
        image_size: height and width to resize to, pixels; None: not resized.
        skip_unreadable: leave out files that cannot be decoded, and say how many; without it the first is an error.

    Raises:
        UserError: the folder does not have the expected classes and images.
    """
    class_names = _classes(folder / "train")
    in_test = _classes(folder / "test")
    for missing, where in ((set(class_names) - set(in_test), "test"), (set(in_test) - set(class_names), "train")):
        if missing:
            raise UserError(
                f"expected the same classes in {folder}/train and {folder}/test, found none of "
                f"{', '.join(sorted(missing))} in {where}"
            )
    files = {part: [_files(folder / part / name) for name in class_names] for part in ("train", "test")}
    if skip_unreadable:
        files = {part: [_readable(of_class) for of_class in files[part]] for part in files}
    paths = {part: [path for of_class in files[part] for path in of_class] for part in files}
    shape = _common_shape(folder, paths["train"] + paths["test"], image_size)
    parts = []
    for part in ("train", "test"):
        counts = torch.tensor([len(of_class) for of_class in files[part]])
        labels = torch.arange(len(class_names)).repeat_interleave(counts)
        parts.append(FileImages(paths[part], labels, shape))
    grey = shape[0] == 1
    mean, std = ((0.449,), (0.226,)) if grey else (IMAGENET_MEAN, IMAGENET_STD)
    return ImageDataset(parts[0], parts[1], class_names, mean, std)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UserError(f"expected a folder of images with one folder for each class at {folder}, found no folder")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "no classes"
        raise UserError(f"expected a folder for each of at least 2 classes in {folder}, found {found}")
    return tuple(names)


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"expected images in {folder}, found none")
    return files


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
        note = f"left out images that cannot be decoded: {len(broken)} in {broken[0].parent}, such as {broken[0].name}"
        warnings.warn(note, UserNote, stacklevel=2)
    return [path for path, good in zip(paths, readable, strict=True) if good]


def _common_shape(folder: Path, paths: list[Path], image_size: int | None) -> tuple[int, int, int]:
    """Return the shape for all images: colour if any image is, ``image_size`` or else the size of all images."""
    headers = in_threads(read_header, paths)
    channels = max(channels for channels, _, _ in headers)
    if image_size is not None:
        return channels, image_size, image_size
    sizes = Counter((height, width) for _, height, width in headers)
    if len(sizes) > 1:
        (common, _), (other, _) = sizes.most_common(2)
        example = next(path for path, header in zip(paths, headers, strict=True) if header[1:] == other)
        raise UserError(
            f"expected images of one size in {folder}, or image_size to resize them to, found "
            f"{common[0]}x{common[1]} and {other[0]}x{other[1]} (height x width; {example.relative_to(folder)})"
        )
    ((height, width),) = sizes
    return channels, height, width
