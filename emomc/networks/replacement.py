"""Running a network with other tensors in place of some of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def run_with(network: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> Any:
    """Run a network once with other parameters and buffers; what it has itself is neither used nor changed.

    ``functional_call`` alone leaves the other tensors in a module that has several names, and does not know of a
    parameter's place in a second module unless it is told.

    Args:
        network: any.
        tensors: name of a parameter or buffer -> tensor of its shape, used wherever the network holds that one.
        images: (n, channels, height, width).

    Returns:
        What the network returns.

    Raises:
        KeyError: the network has no such parameter or buffer.
    """
    # Every place of each tensor, a module that has several names once.
    places: dict[int, list[str]] = {}
    for folder, module in network.named_modules():
        for name, own in _tensors(module, recurse=False).items():
            places.setdefault(id(own), []).append(f"{folder}.{name}".removeprefix("."))
    # By all names, also the further ones of a module.
    names = _tensors(network, recurse=True)
    replaced = {place: tensor for name, tensor in tensors.items() for place in places[id(names[name])]}
    return functional_call(network, replaced, (images,), tie_weights=False)


def _tensors(module: nn.Module, *, recurse: bool) -> dict[str, Tensor]:
    parameters = module.named_parameters(recurse=recurse, remove_duplicate=False)
    return dict(parameters) | dict(module.named_buffers(recurse=recurse, remove_duplicate=False))
