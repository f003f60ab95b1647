"""Build the network and the data of a library, from settings or from its manifest.

User code runs only if the command line or the caller names it, never because a file names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.common.user_code import call_with, load_object, names_user_code, source_sha256
from emomc.data.config import DataConfig
from emomc.data.image_folder import FOLDER_PREFIX
from emomc.library.library import Library
from emomc.library.manifest import Manifest
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.networks.build import build_network, network_source_sha256
from emomc.networks.equivalence import checked_graph
from emomc.networks.graph import NetworkGraph, trace_network
from emomc.networks.layers import LayerShape
from emomc.networks.preparation import make_plain
from emomc.networks.state import load_unique, unique_state
from emomc.networks.weights import check_fit


def library_network(library: Library, named: str | None = None) -> nn.Module:
    """Return the network of a library, with arbitrary weights.

    Args:
        library: the library.
        named: the user's network, ``path/to/file.py:Class`` or ``package.module:Class``; not needed for the project's
            own networks.

    Raises:
        UserError: the library's network is a user's and none is named.
    """
    manifest = library.manifest
    if named is None and names_user_code(manifest.network):
        raise UserError(f"expected --network {manifest.network}, whose code made this library, found no --network")
    # A library that knows the computation is checked by it: see library_graph.
    checked_by_source = named is not None and not has_comparable_digest(manifest)
    if named and checked_by_source and network_source_sha256(named) != manifest.network_source_sha256:
        raise UserError(
            f"expected the network {manifest.network} with the source that made {library.path}, "
            f"found {named} with another source"
        )
    network = build_network(
        named or manifest.network,
        in_channels=manifest.input_shape[0],
        num_classes=manifest.num_classes,
        network_args=manifest.network_args,
        input_shape=manifest.input_shape,
    )
    return make_plain(network, manifest.input_shape)


def library_graph(library: Library, network: nn.Module | None = None) -> NetworkGraph:
    """Return the graph of a library's network.

    Args:
        library: the library.
        network: see ``library_network``; the values of its weights do not matter. None: that of the zoo.

    Raises:
        UserError: the network computes something else than the one that made the library.
    """
    manifest = library.manifest
    network = network or library_network(library)
    graph = trace_network(network, manifest.input_shape, manifest.network_output)
    if graph.layers != manifest.layers or (has_comparable_digest(manifest) and graph.digest != manifest.graph_sha256):
        raise UserError(
            f"expected the network of the library {library.path}, {manifest.network} with the layers "
            f"{_names(manifest.layers)}, found {type(network).__name__} with {_names(graph.layers)} "
            f"or with another computation"
        )
    return graph


def checked_library_graph(library: Library, network: nn.Module, images: Tensor) -> NetworkGraph:
    """Return the graph that candidates are made of, after comparing it with the network on some images.

    Args:
        library: the library.
        network: see ``library_network``; it receives the weights of the library's first level.
        images: float, (n, channels, height, width), normalised.

    Raises:
        UserError: see ``library_graph`` and ``checked_graph``.
    """
    manifest = library.manifest
    graph = library_graph(library, network)
    if not library.percents:
        raise UserError(f"expected levels in the library {library.path}, found none")
    percent = library.percents[0]
    state = library.load_state(percent)
    check_fit(state, unique_state(network), manifest.network, library.path / library.record(percent).file)
    load_unique(network, state)
    return checked_graph(graph, network, images, manifest.network_output)


def has_comparable_digest(manifest: Manifest) -> bool:
    """Return whether a library knows its network's computation as this version of torch writes it."""
    return manifest.graph_sha256 is not None and manifest.torch_version == torch.__version__


def _names(layers: Sequence[LayerShape]) -> str:
    return ", ".join(layer.name for layer in layers[:6]) + (", ..." if len(layers) > 6 else "")


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
    # A library that came from elsewhere does not say where files are written.
    return build_data(found, download=data_dir is not None)


def build_data(config: DataConfig, *, download: bool = True) -> LightningDataModule:
    """Make the data module that ``config.dataset`` names; nothing is read or downloaded yet.

    A user's class gets those fields of ``config`` (``data_dir``, ``batch_size``, ``num_workers``, ``seed``, ...) that
    its constructor names.

    Args:
        config: which data, and how they are loaded.
        download: fetch one of the project's datasets that is missing.

    Raises:
        UserError: a user's class cannot be found or constructed, or is not a LightningDataModule.
    """
    spec = config.dataset
    if not names_users_data(spec):
        return ImageDataModule(config, download=download)
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
