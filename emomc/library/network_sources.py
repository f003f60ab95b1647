"""Build the network of a library from its manifest.

User code runs only if the command line or the caller names it, never because a file names it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from emomc.common.errors import UserError, shown
from emomc.common.user_code import names_user_code
from emomc.library.library import Library
from emomc.library.manifest import Manifest
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
    graph = trace_network(network, manifest.input_shape, manifest.form)
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
    if not library.levels:
        raise UserError(f"expected levels in the library {library.path}, found none")
    level = library.levels[0]
    state = library.load_state(level)
    check_fit(state, unique_state(network), manifest.network, library.path / library.record(level).file)
    load_unique(network, state)
    return checked_graph(graph, network, images, manifest.form)


def has_comparable_digest(manifest: Manifest) -> bool:
    """Return whether a library knows its network's computation as this version of torch writes it."""
    return manifest.graph_sha256 is not None and manifest.torch_version == torch.__version__


def _names(layers: Sequence[LayerShape]) -> str:
    return ", ".join(layer.name for layer in layers[:6]) + (", ..." if len(layers) > 6 else "")
