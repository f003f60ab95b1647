"""Build the network and the data of a library, from settings or from its manifest.

User code runs only if the command line or the caller names it, never because a file names it.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from emomc.common.errors import UserError, UserNote, shown
from emomc.common.user_code import call_with, load_object, names_user_code, source_sha256
from emomc.data.config import PREPROCESSING, DataConfig
from emomc.data.image_folder import FOLDER_PREFIX
from emomc.data.preprocessing import preprocessing_of
from emomc.data.splits import Split
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
from emomc.networks.zoo import NETWORKS

_PARAMETERS_A_BYTE = 8


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
    _check_size(library, named or manifest.network)
    network = build_network(
        named or manifest.network,
        in_channels=manifest.input_shape[0],
        num_classes=manifest.num_classes,
        network_args=manifest.network_args,
        input_shape=manifest.input_shape,
    )
    return make_plain(network, manifest.input_shape)


def _check_size(library: Library, spec: str) -> None:
    """Check that a library's network is no larger than the files of its levels, before it takes memory.

    A user's network whose constructor does not work without memory is not checked.

    Raises:
        UserError: the arguments in the manifest ask for more parameters than a file has bits.
    """
    manifest = library.manifest
    if not manifest.levels:
        raise UserError(f"expected levels in the library {library.path}, found none")
    try:
        with torch.device("meta"):
            network = build_network(
                spec,
                in_channels=manifest.input_shape[0],
                num_classes=manifest.num_classes,
                network_args=manifest.network_args,
            )
        parameters = sum(part.numel() for part in network.parameters() if not is_lazy(part))
    except (UserError, RuntimeError):
        if spec in NETWORKS:
            raise
        return
    sizes = [path.stat().st_size for record in manifest.levels if (path := library.path / record.file).is_file()]
    # A level's file has at least a bit for each weight, and the norms of weights that are computed are few.
    most = _PARAMETERS_A_BYTE * max(sizes, default=0)
    if sizes and parameters > most:
        raise UserError(
            f"expected the network {manifest.network} of the library {library.path} with at most {most:,} parameters, "
            f"8 for each byte of a level's file, found {parameters:,} with the arguments {shown(manifest.network_args)}"
        )


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
        UserError: the data module is a user's and none is named, its source has changed, or the library's settings ask
            for images of another size than its own.
    """
    config = DataConfig.from_dict(library.manifest.data)
    if dataset is None and names_users_data(config.dataset):
        raise UserError(f"expected --dataset {config.dataset}, whose code loads the images, found no --dataset")
    if dataset is not None and data_source_sha256(dataset) != library.manifest.data_source_sha256:
        raise UserError(
            f"expected the data {config.dataset} with the source that made {library.path}, "
            f"found {dataset} with another source"
        )
    if not names_users_data(dataset or config.dataset):
        preprocessing, sides = preprocessing_of(config), library.manifest.input_shape[1:]
        size = preprocessing.crop or preprocessing.size
        if size is not None and size != sides:
            raise UserError(f"expected a size of {size} to be that of the library's images, found {sides}")
    found = dataclasses.replace(
        config,
        dataset=dataset or config.dataset,
        data_dir=data_dir or config.data_dir,
        num_workers=min(config.num_workers, os.cpu_count() or 1),
    )
    # A library that came from elsewhere does not say where files are written.
    return build_data(found, download=data_dir is not None)


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


def build_data(config: DataConfig, *, download: bool = True) -> LightningDataModule:
    """Make the data module that ``config.dataset`` names; nothing is read or downloaded yet.

    A user's class gets those fields of ``config`` (``data_dir``, ``batch_size``, ``num_workers``, ``seed``, ...) that
    its constructor names; it must name what is set of ``PREPROCESSING``.

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
    settings = dataclasses.asdict(config)
    # What the user sets and the class does not take is an error, not a setting without effect.
    given = {name: settings[name] for name in PREPROCESSING if settings[name] is not None}
    # Lightning's own constructor takes anything, and does nothing with it.
    if given and getattr(thing, "__init__", None) is LightningDataModule.__init__:
        raise UserError(f"expected {spec} to have a constructor that takes {', '.join(given)}, found none")
    data = call_with(thing, given, settings, f"the data module {spec}")
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
