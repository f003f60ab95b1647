"""Building a network by its name: a built-in one or a user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from emomc.common.errors import UserError
from emomc.common.user_code import call_with, load_object, names_file, names_user_code, source_sha256
from emomc.networks.head import fit_head
from emomc.networks.preparation import make_plain
from emomc.networks.zoo import NETWORKS

_TIMM = "timm:"


def build_network(
    spec: str,
    *,
    in_channels: int,
    num_classes: int,
    network_args: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> nn.Module:
    """Make a network with random initial weights from torch's default generator.

    Args:
        spec: a name of ``NETWORKS``, ``timm:NAME``, or ``path/to/file.py:Class`` or ``package.module:Class`` of an
            ``nn.Module`` subclass or of a function that returns a module.
        in_channels: channels of an image; passed to a user's class only if its signature takes it.
        num_classes: number of classes; passed to a user's class only if its signature takes it.
        network_args: further arguments of the constructor.
        input_shape: (channels, height, width) of one image. If given, the last linear layer of a network from an
            installed package is replaced where it gives another number of scores.

    Raises:
        UserError: there is no such network, the arguments do not fit it, or the result is not an ``nn.Module``.
    """
    offered = {"in_channels": in_channels, "num_classes": num_classes}
    network = call_with(_find(spec), dict(network_args or {}), offered, f"the network {spec}")
    if not isinstance(network, nn.Module):
        raise UserError(f"expected {spec} to make a torch.nn.Module, found {type(network).__name__}")
    if input_shape is not None and names_user_code(spec) and not names_file(spec):
        make_plain(network, input_shape)
        fit_head(network, input_shape, num_classes)
    return network


def network_source_sha256(spec: str) -> str | None:
    """Return the SHA-256 (64 hex digits) of the source file of a user's network, None for a network of ``NETWORKS``.

    Raises:
        UserError: there is no such network or it has no source file.
    """
    if spec in NETWORKS:
        return None
    if spec.startswith(_TIMM):
        return source_sha256("timm:create_model", "a network")
    _find(spec)
    return source_sha256(spec, "a network")


def _find(spec: str) -> Callable[..., Any]:
    if spec in NETWORKS:
        return NETWORKS[spec]
    if spec.startswith(_TIMM):
        return _timm(spec.removeprefix(_TIMM))
    if not names_user_code(spec):
        raise UserError(
            f"expected a network among {', '.join(NETWORKS)}, path/to/file.py:Class, package.module:Class or "
            f"timm:NAME, found {spec!r}"
        )
    thing = load_object(spec, "a network")
    if not callable(thing) or (isinstance(thing, type) and not issubclass(thing, nn.Module)):
        found = f"the class {thing.__name__}" if isinstance(thing, type) else f"a value of type {type(thing).__name__}"
        raise UserError(f"expected {spec} to be a torch.nn.Module class or a function that returns one, found {found}")
    return thing


def _timm(name: str) -> Callable[..., Any]:
    """Return what makes a network of the package timm."""
    try:
        timm = importlib.import_module("timm")
    except ImportError:
        raise UserError(
            f"expected the package timm for the network {_TIMM}{name}, found none: pip install timm"
        ) from None
    if not timm.is_model(name):
        raise UserError(f"expected a network that timm knows, found {name!r}: see timm.list_models()")

    def create(in_channels: int, num_classes: int, **arguments: Any) -> Any:
        return timm.create_model(name, in_chans=in_channels, num_classes=num_classes, **arguments)

    return create
