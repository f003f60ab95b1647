"""The options that name a network to look at, without a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from emomc.common.errors import UserError

if TYPE_CHECKING:
    from emomc.networks.graph import NetworkGraph


def add_network_options(parser: ArgumentParser, verb: str) -> None:
    """Add the options that name a network.

    Args:
        parser: of the command.
        verb: what the command does with it, such as cost.
    """
    parser.add_argument(
        "--network",
        type=str | None,
        default=None,
        help=f"The network to {verb}: lenet5, mobilenet, vgg16, resnet18, timm:NAME, path/to/file.py:Class or "
        "package.module:Class; its weights do not matter.",
    )
    parser.add_argument(
        "--input_shape",
        type=list[int] | None,
        default=None,
        help="Channels, height and width of an image, pixels; default: 1 32 32 for lenet5, otherwise 3 32 32.",
    )
    parser.add_argument("--classes", type=int, default=10, help="Number of classes, 1 or more.")


def named_graph(arguments: Namespace) -> NetworkGraph:
    """Return the graph of the network that the options name.

    Raises:
        UserError: there is no such network, or an option is out of range.
    """
    from emomc.networks.build import build_network
    from emomc.networks.graph import trace_network

    shape = tuple(arguments.input_shape or ((1, 32, 32) if arguments.network == "lenet5" else (3, 32, 32)))
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"expected --input_shape with channels, height and width of at least 1, found {list(shape)}")
    if arguments.classes < 1:
        raise UserError(f"expected --classes of at least 1, found {arguments.classes}")
    network = build_network(arguments.network, in_channels=shape[0], num_classes=arguments.classes)
    return trace_network(network, shape)
