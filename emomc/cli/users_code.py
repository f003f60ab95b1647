"""The user's own network and data: their code runs because the command line names it, never because a file does."""

from __future__ import annotations

import dataclasses

from jsonargparse import ArgumentParser
from torch import nn

from emomc.common.errors import UserError
from emomc.common.user_code import names_user_code
from emomc.data.config import DataConfig
from emomc.data.splits import data_source_sha256, names_users_data
from emomc.library.library import Library
from emomc.networks.zoo import build_network, network_source_sha256


def add_users_code(parser: ArgumentParser) -> None:
    """Add the options by which the user names a network and data that are not the project's own."""
    parser.add_argument(
        "--network", type=str | None, default=None, help="Your own network, as emomc-pretrain had it; its code is run."
    )
    parser.add_argument(
        "--dataset",
        type=str | None,
        default=None,
        help="Your own data module, as emomc-pretrain had it; its code is run.",
    )
    parser.add_argument(
        "--data_dir",
        type=str | None,
        default=None,
        help="Folder of the data, if it is not where emomc-pretrain had it.",
    )


def network_of(library: Library, named: str | None) -> nn.Module | None:
    """Return the user's network if one is named; None where the library has one of the project's own.

    Args:
        library: made from the network.
        named: how the command line names it.

    Raises:
        UserError: the library's network is a user's and none is named, or its source is another one by now.
    """
    manifest = library.manifest
    if named is None:
        if names_user_code(manifest.network):
            raise UserError(f"expected --network {manifest.network}, whose code made this library, found no --network")
        return None
    if network_source_sha256(named) != manifest.network_source_sha256:
        raise UserError(
            f"expected the network {manifest.network} with the source that made {library.path}, "
            f"found {named} with another one"
        )
    return build_network(
        named,
        in_channels=manifest.input_shape[0],
        num_classes=manifest.num_classes,
        network_args=manifest.network_args,
    )


def data_config_of(library: Library, dataset: str | None, data_dir: str | None) -> DataConfig:
    """Return where a library's data is.

    Args:
        library: trained on the data.
        dataset: the user's data module as the command line names it.
        data_dir: folder of the data, if it moved.

    Raises:
        UserError: the data module is a user's and none is named, or its source is another one by now.
    """
    config = DataConfig.from_dict(library.manifest.data)
    if names_users_data(config.dataset) and dataset is None:
        raise UserError(f"expected --dataset {config.dataset}, whose code gives the images, found no --dataset")
    if dataset is not None and data_source_sha256(dataset) != library.manifest.data_source_sha256:
        raise UserError(
            f"expected the data {config.dataset} with the source that made {library.path}, "
            f"found {dataset} with another one"
        )
    return dataclasses.replace(config, dataset=dataset or config.dataset, data_dir=data_dir or config.data_dir)
