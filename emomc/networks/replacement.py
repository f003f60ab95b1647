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
        for name, own in (*module._parameters.items(), *module._buffers.items()):
            if own is not None:
                places.setdefault(id(own), []).append(f"{folder}.{name}".removeprefix("."))
    # By all names, also the further ones of a module.
    own_tensors = dict(
        (*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False))
    )
    replaced = {place: tensor for name, tensor in tensors.items() for place in places[id(own_tensors[name])]}
    return functional_call(network, replaced, (images,), tie_weights=False)
