"""The images of a library, from settings or from its manifest.

User code runs only if the command line or the caller names it, never because a file names it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor

from emomc.common.errors import UserError, UserNote
from emomc.common.user_code import call_with, load_object, names_user_code, source_sha256
from emomc.data.config import MUST_TAKE_EFFECT, DataConfig
from emomc.data.image_folder import FOLDER_PREFIX
from emomc.data.preprocessing import preprocessing_of
from emomc.data.splits import Split
from emomc.library.library import Library
from emomc.lightning_modules.image_data import ImageDataModule

_USERS_DATA = "a LightningDataModule, or a function that returns one or datasets"


def library_data(library: Library, dataset: str | None = None, data_dir: str | None = None) -> LightningDataModule:
    """Return the data of a library; nothing is read yet.

    Relative paths of the library start from the folder that it was made in, if they are there; else from the working
    directory.

    Args:
        library: the library.
        dataset: name of the user's own data, or of other images; not needed for the project's own datasets.
        data_dir: folder of the data, if it moved.

    Raises:
        UserError: the data are a user's and none are named, their source has changed, the folder of images is not
            found, or the library's settings ask for images of another size than its own.
    """
    manifest = library.manifest
    config = DataConfig.from_dict(manifest.data)
    if dataset is None and names_users_data(config.dataset):
        raise UserError(f"expected --dataset {config.dataset}, whose code loads the images, found no --dataset")
    if dataset is not None and data_source_sha256(dataset) != manifest.data_source_sha256:
        raise UserError(
            f"expected the data {config.dataset} with the source that made {library.path}, "
            f"found {dataset} with another source"
        )
    if not names_users_data(dataset or config.dataset):
        preprocessing, sides = preprocessing_of(config), manifest.input_shape[1:]
        size = preprocessing.crop or preprocessing.size
        if size is not None and size != sides:
            raise UserError(f"expected a size of {size} to be that of the library's images, found {sides}")
    root = Path()
    if dataset is None and config.dataset.startswith(FOLDER_PREFIX):
        root = _folder_root(library, config.dataset.removeprefix(FOLDER_PREFIX))
    elif data_dir is None:
        root = _root(library, config.data_dir)
    found = dataclasses.replace(
        config,
        dataset=dataset or config.dataset,
        data_dir=data_dir or config.data_dir,
        num_workers=min(config.num_workers, os.cpu_count() or 1),
        # The library has the classes that the file said.
        class_map=None,
    )
    # A library that came from elsewhere does not say where files are written.
    return build_data(found, download=data_dir is not None, root=root, class_names=manifest.class_names)


def _root(library: Library, path: str) -> Path:
    """Return the folder that a path of a library's settings starts from, if it is relative."""
    given_in = library.manifest.given_in
    if given_in is None or Path(path).expanduser().is_absolute():
        return Path()
    root = _made_in(library)
    return root if (root / path).exists() else Path()


def _made_in(library: Library) -> Path:
    return Path(os.path.normpath(library.path.resolve() / (library.manifest.given_in or "")))


def _folder_root(library: Library, folder: str) -> Path:
    """Return ``_root`` of a folder of images.

    Raises:
        UserError: it is not there.
    """
    root = _root(library, folder)
    if not (root / Path(folder).expanduser()).is_dir():
        elsewhere = library.manifest.given_in is not None and not Path(folder).expanduser().is_absolute()
        tried = f"{folder} or {_made_in(library) / folder}" if elsewhere else folder
        raise UserError(
            f"expected the images of the library {library.path} in {tried}, found no such folder: name the one they "
            f"are in now with --dataset {FOLDER_PREFIX}DIR"
        )
    return root


def check_images(library: Library, data: LightningDataModule, images: Tensor, labels: Tensor, split: Split) -> None:
    """Check that images are such as a library's network takes.

    Args:
        library: the library.
        data: where they come from.
        images: float, (n, channels, height, width).
        labels: int64, (n,).
        split: which they are, for the error.

    Raises:
        UserError: they have another shape, or another number of classes.
    """
    manifest = library.manifest
    classes = getattr(data, "num_classes", None)
    found = tuple(images.shape[1:])
    if found != manifest.input_shape or classes != manifest.num_classes or int(labels.max()) >= manifest.num_classes:
        raise UserError(
            f"expected {split} images of shape {manifest.input_shape} in {manifest.num_classes} classes, for which the "
            f"library {library.path} was made, found {found} in {classes}"
        )


def measured_dataset(library: Library, data: LightningDataModule, named: str | None = None) -> str:
    """Return the name of the data that accuracies are measured on.

    Args:
        library: the library.
        data: the data.
        named: their name, if the user gave one.
    """
    if named is not None:
        return named
    if isinstance(data, ImageDataModule):
        return data.config.dataset
    own: str = library.manifest.data["dataset"]
    return own if names_users_data(own) else type(data).__name__


def is_data_of(library: Library, dataset: str, digest: str) -> bool:
    """Return whether validation images are those that the accuracies in a library are of; warn if they are others.

    Args:
        library: the library; one made before manifests had digests is compared by the name of its data.
        dataset: see ``measured_dataset``.
        digest: ``tensor_digest`` of the validation images and their labels.
    """
    own, recorded = library.manifest.data["dataset"], library.manifest.images_sha256
    if recorded is not None and recorded.get("validation") == digest:
        return True
    if dataset != own:
        text = f"accuracies are measured on {dataset}, not on {own}, with which the library was made"
    elif recorded is None:
        return True
    else:
        text = (
            f"accuracies are measured on other validation images of {dataset} ({digest[:12]}) than those with which "
            f"the library was made ({str(recorded.get('validation'))[:12]})"
        )
    warnings.warn(text, UserNote, stacklevel=2)
    return False


def build_data(
    config: DataConfig, *, download: bool = True, root: Path = Path(), class_names: Sequence[str] | None = None
) -> LightningDataModule:
    """Make the data module that ``config.dataset`` names; nothing is read or downloaded yet but by a user's function.

    A user's class or function gets those fields of ``config`` (``data_dir``, ``batch_size``, ``num_workers``, ``seed``,
    ...) that it names. A class, or a function that returns a LightningDataModule, must name what is set of
    ``MUST_TAKE_EFFECT``. What another function returns are datasets; see ``load_samples``.

    Args:
        config: which data, and how they are loaded.
        download: fetch one of the project's datasets that is missing.
        root: folder that relative paths of ``config`` start from.
        class_names: all classes of a network, in the order of its outputs; None: see ``load_dataset``. A user's
            LightningDataModule has an order of its own.

    Raises:
        UserError: a user's class or function cannot be found, fails, or gives something else.
    """
    spec = config.dataset
    module = functools.partial(ImageDataModule, config, download=download, root=root, class_names=class_names)
    if not names_users_data(spec):
        return module()
    thing = load_object(spec, _USERS_DATA)
    if not callable(thing) or (isinstance(thing, type) and not issubclass(thing, LightningDataModule)):
        raise UserError(f"expected {spec} to be {_USERS_DATA}, found {getattr(thing, '__name__', thing)!r}")
    settings = dataclasses.asdict(config) | {"data_dir": str(root / config.data_dir)}
    # A module that asks whether to augment asks for true or false.
    settings["augment"] = config.augment != "none" and config.augment
    given = {name: settings[name] for name in MUST_TAKE_EFFECT if settings[name] is not None}
    what = f"the data {spec}"
    if isinstance(thing, type):
        # Lightning's own constructor takes anything, and does nothing with it.
        if given and thing.__init__ is LightningDataModule.__init__:  # type: ignore[misc]
            raise UserError(f"expected {spec} to have a constructor that takes {', '.join(given)}, found none")
        made: LightningDataModule = call_with(thing, given, settings, what)
        return made
    made = call_with(thing, {}, settings, what)
    if not isinstance(made, LightningDataModule):
        return module(samples=_checked_samples(made, spec))
    # What the user sets and the function does not take is an error, not a setting without effect.
    if left := [name for name in given if name not in inspect.signature(thing).parameters]:
        raise UserError(f"expected {spec} to take {', '.join(left)}, as it returns a LightningDataModule, found none")
    return made


def _checked_samples(made: Any, spec: str) -> Any:
    """Return what a function has returned if it can be the datasets of splits.

    Raises:
        UserError: it has another form.
    """
    if isinstance(made, Mapping) or (isinstance(made, (tuple, list)) and 1 <= len(made) <= 3):
        return made
    raise UserError(
        f"expected {spec} to return a LightningDataModule, or datasets by name or as a pair or triple (training, "
        f"validation, test), found {type(made).__name__}"
    )


def names_users_data(dataset: str) -> bool:
    """Return whether a dataset's name is that of a user's class or function, whose code would run."""
    return not dataset.startswith(FOLDER_PREFIX) and names_user_code(dataset)


def data_source_sha256(dataset: str) -> str | None:
    """Return the SHA-256 (64 hex digits) of the source file of a user's data; None for the project's datasets.

    Raises:
        UserError: there is no such file or module.
    """
    return source_sha256(dataset, _USERS_DATA) if names_users_data(dataset) else None
