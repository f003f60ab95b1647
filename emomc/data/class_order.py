"""The order of classes that trained weights have, and datasets whose labels follow it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emomc.common.errors import UserError, is_whole
from emomc.common.files import existing_file, read_json
from emomc.data.image_dataset import ImageDataset
from emomc.data.images import Images

CLASSES_FILE = "classes.txt"
"""File in a folder of images that says the order of their classes."""

MOST_CLASSES = 1 << 20
# Classes that are named in an error.
_SHOWN = 5

Names = tuple[str, ...]


def read_class_order(path: Path, present: Sequence[str]) -> Names:
    """Return the name of every class in the order of the outputs of trained weights.

    Args:
        path: a text with one name a line, or JSON: a list of names, an object of name -> number of the output, or an
            object of number -> name or list of names of one class (ImageNet's ``{"0": ["n01440764", "tench"], ...}``).
        present: classes of the images. Where a class has several names, the kind of name that these have is taken.

    Raises:
        UserError: there is no such file, it is of another form, a name occurs twice, or a class of the images is not
            there.
    """
    existing_file(path, "the classes")
    kinds = _of_json(path) if path.suffix.lower() == ".json" else [_lines(path)]
    names = max(kinds, key=lambda kind: len({*kind} & {*present}))
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"expected each class once in {path}, found {twice!r} twice")
    if not 2 <= len(names) <= MOST_CLASSES:
        raise UserError(f"expected 2 to {MOST_CLASSES:,} classes in {path}, found {len(names)}")
    if missing := sorted({*present} - {*names}):
        more = ", ..." if len(missing) > _SHOWN else ""
        raise UserError(
            f"expected every class of the images in {path}, found none of {', '.join(missing[:_SHOWN])}{more}"
        )
    return names


def _lines(path: Path) -> Names:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"expected a text with one class a line in {path}, found a file that is no text") from None
    return tuple(line.strip() for line in lines if line.strip())


def _of_json(path: Path) -> list[Names]:
    """Return the names of all classes, once for each name that a class has."""
    values = read_json(path, "the classes")
    if isinstance(values, list):
        rows: list[Any] = values
    elif isinstance(values, Mapping) and values and all(is_whole(number, 0) for number in values.values()):
        rows = _in_order({int(number): name for name, number in values.items()}, len(values), path)
    elif isinstance(values, Mapping) and all(str(key).isdecimal() for key in values):
        rows = _in_order({int(key): value for key, value in values.items()}, len(values), path)
    else:
        raise UserError(f"expected a list of names, or an object of names and numbers in {path}, found another form")
    names = [row if isinstance(row, list) else [row] for row in rows]
    texts = all(isinstance(name, str) for row in names for name in row)
    if not texts or len({len(row) for row in names}) != 1:
        raise UserError(f"expected texts as the names of classes in {path}, as many for each class, found others")
    return [tuple(kind) for kind in zip(*names, strict=True)]


def _in_order(numbered: Mapping[int, Any], count: int, path: Path) -> list[Any]:
    if sorted(numbered) != list(range(count)):
        raise UserError(f"expected the numbers 0 to {count - 1}, each once, in {path}, found others")
    return [numbered[number] for number in range(count)]


def in_class_order(dataset: ImageDataset, names: Sequence[str]) -> ImageDataset:
    """Return a dataset whose labels are the numbers of its classes among ``names``.

    Args:
        dataset: any.
        names: of all classes that a network tells apart; the dataset may have fewer.

    Raises:
        UserError: a class of the dataset is not among them.
    """
    if dataset.class_names == tuple(names):
        return dataset
    number = {name: index for index, name in enumerate(names)}
    unknown = [name for name in dataset.class_names if name not in number]
    if unknown:
        raise UserError(
            f"expected images of the classes {_shown(names)}, found the class {unknown[0]!r}"
            + (f" and {len(unknown) - 1} others" if len(unknown) > 1 else "")
        )
    new = torch.tensor([number[name] for name in dataset.class_names])
    return dataclasses.replace(
        dataset,
        class_names=tuple(names),
        train=_relabelled(dataset.train, new),
        validation=None if dataset.validation is None else _relabelled(dataset.validation, new),
        test=None if dataset.test is None else _relabelled(dataset.test, new),
    )


def _relabelled(images: Images, new: torch.Tensor) -> Images:
    changed = copy.copy(images)
    changed.labels = new[images.labels]
    return changed


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
