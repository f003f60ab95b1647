"""Building a network by its name: a built-in one or a user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from emomc.common.errors import UserError
from emomc.common.user_code import call_with, load_object, names_user_code, source_sha256
from emomc.networks.zoo import NETWORKS


def build_network(
    spec: str, *, in_channels: int, num_classes: int, network_args: Mapping[str, Any] | None = None
) -> nn.Module:
    """Make a network with random initial weights from torch's default generator.

    Args:
        spec: a name of ``NETWORKS``, or ``path/to/file.py:Class`` or ``package.module:Class`` of an ``nn.Module``
            subclass or of a function that returns a module.
        in_channels: channels of an image; passed to a user's class only if its signature takes it.
        num_classes: number of classes; passed to a user's class only if its signature takes it.
        network_args: further arguments of the constructor.

    Raises:
        UserError: there is no such network, the arguments do not fit it, or the result is not an ``nn.Module``.
    """
    offered = {"in_channels": in_channels, "num_classes": num_classes}
    network = call_with(_find(spec), dict(network_args or {}), offered, f"the network {spec}")
    if not isinstance(network, nn.Module):
        raise UserError(f"expected {spec} to make a torch.nn.Module, found {type(network).__name__}")
    return network


def network_source_sha256(spec: str) -> str | None:
    """Return the SHA-256 (64 hex digits) of the source file of a user's network, None for a network of ``NETWORKS``.

    Raises:
        UserError: there is no such network or it has no source file.
    """
    if spec in NETWORKS:
        return None
    _find(spec)
    return source_sha256(spec, "a network")


def _find(spec: str) -> Callable[..., Any]:
    if spec in NETWORKS:
        return NETWORKS[spec]
    if not names_user_code(spec):
        raise UserError(
            f"expected a network among {', '.join(NETWORKS)}, path/to/file.py:Class or package.module:Class, "
            f"found {spec!r}"
        )
    thing = load_object(spec, "a network")
    if not callable(thing) or (isinstance(thing, type) and not issubclass(thing, nn.Module)):
        found = f"the class {thing.__name__}" if isinstance(thing, type) else f"a value of type {type(thing).__name__}"
        raise UserError(f"expected {spec} to be a torch.nn.Module class or a function that returns one, found {found}")
    return thing
