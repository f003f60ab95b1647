"""Build the network and the data of a library, from settings or from its manifest.

User code runs only if the command line or the caller names it, never because a file names it.
"""

from __future__ import annotations

import dataclasses

from pytorch_lightning import LightningDataModule
from torch import nn

from emomc.common.errors import UserError
from emomc.common.user_code import call_with, load_object, names_user_code, source_sha256
from emomc.data.config import DataConfig
from emomc.data.image_folder import FOLDER_PREFIX
from emomc.library.library import Library
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.networks.build import build_network, network_source_sha256


def library_network(library: Library, named: str | None = None) -> nn.Module:
    """Return the network of a library, with arbitrary weights.

    Args:
        library: the library.
        named: the user's network, ``path/to/file.py:Class`` or ``package.module:Class``; not needed for the project's
            own networks.

    Raises:
        UserError: the library's network is a user's and none is named, or its source has changed.
    """
    manifest = library.manifest
    if named is None:
        if names_user_code(manifest.network):
            raise UserError(f"expected --network {manifest.network}, whose code made this library, found no --network")
    elif network_source_sha256(named) != manifest.network_source_sha256:
        raise UserError(
            f"expected the network {manifest.network} with the source that made {library.path}, "
            f"found {named} with another source"
        )
    return build_network(
        named or manifest.network,
        in_channels=manifest.input_shape[0],
        num_classes=manifest.num_classes,
        network_args=manifest.network_args,
    )


def library_data(library: Library, dataset: str | None = None, data_dir: str | None = None) -> LightningDataModule:
    """Return the data of a library; nothing is read yet.

    Args:
        library: the library.
        dataset: name of the user's data module; not needed for the project's own datasets.
        data_dir: folder of the data, if it moved.

    Raises:
        UserError: the data module is a user's and none is named, or its source has changed.
    """
    config = DataConfig.from_dict(library.manifest.data)
    if dataset is None and names_users_data(config.dataset):
        raise UserError(f"expected --dataset {config.dataset}, whose code loads the images, found no --dataset")
    if dataset is not None and data_source_sha256(dataset) != library.manifest.data_source_sha256:
        raise UserError(
            f"expected the data {config.dataset} with the source that made {library.path}, "
            f"found {dataset} with another source"
        )
    found = dataclasses.replace(config, dataset=dataset or config.dataset, data_dir=data_dir or config.data_dir)
    return build_data(found)


def build_data(config: DataConfig) -> LightningDataModule:
    """Make the data module that ``config.dataset`` names; nothing is read or downloaded yet.

    A user's class gets those fields of ``config`` (``data_dir``, ``batch_size``, ``num_workers``, ``seed``, ...) that
    its constructor names.

    Raises:
        UserError: a user's class cannot be found or constructed, or is not a LightningDataModule.
    """
    spec = config.dataset
    if not names_users_data(spec):
        return ImageDataModule(config)
    thing = load_object(spec, "a LightningDataModule")
    if not callable(thing) or (isinstance(thing, type) and not issubclass(thing, LightningDataModule)):
        raise UserError(f"expected {spec} to be a LightningDataModule, found {getattr(thing, '__name__', thing)!r}")
    data = call_with(thing, {}, dataclasses.asdict(config), f"the data module {spec}")
    if not isinstance(data, LightningDataModule):
        raise UserError(f"expected {spec} to make a LightningDataModule, found {type(data).__name__}")
    return data


def names_users_data(dataset: str) -> bool:
    """Return whether a dataset's name is that of a user's data module, whose code would run."""
    return not dataset.startswith(FOLDER_PREFIX) and names_user_code(dataset)


def data_source_sha256(dataset: str) -> str | None:
    """Return the SHA-256 (64 hex digits) of the source file of a user's data module; None for the project's datasets.

    Raises:
        UserError: there is no such file or module.
    """
    return source_sha256(dataset, "a LightningDataModule") if names_users_data(dataset) else None
