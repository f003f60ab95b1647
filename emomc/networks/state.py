"""The state of a network in which a tensor may have several names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from emomc.common.errors import UserError


def first_names(network: nn.Module) -> dict[str, str]:
    """Return name -> the first name of the same tensor, for all parameters and buffers."""
    first: dict[int, str] = {}
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def unique_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the state dict, each under its first name alone."""
    first = first_names(network)
    state = network.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and first.get(name, name) == name}


def load_unique(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what ``unique_state`` returned, or a state dict with all names.

    Raises:
        UserError: a tensor is missing or has no place.
    """
    first = first_names(network)
    every = dict(state) | {name: state[one] for name, one in first.items() if one in state}
    wanted = unique_state(network)
    odd = sorted({*wanted} - {*every}) + sorted({*every} - {*network.state_dict()})
    if odd:
        raise UserError(f"expected the tensors of {type(network).__name__}, found a difference in {odd[0]}")
    # Not strict, since a module may keep further state that is no tensor.
    network.load_state_dict(every, strict=False)
