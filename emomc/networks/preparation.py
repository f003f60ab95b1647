"""Giving a user's network plain weights: lazy modules get their shapes, computed weights become parameters."""

from __future__ import annotations

import contextlib
import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNormLoadStateDictPreHook

from emomc.common.errors import UserError, first_line
from emomc.networks.interface import NetworkForm
from emomc.networks.joined import one_tensor_network


def make_plain(network: nn.Module, input_shape: tuple[int, ...], form: NetworkForm = None) -> nn.Module:
    """Initialise the lazy modules of a network and bake its parametrizations into weights, in place; return it.

    Weight and spectral norms are removed, by either of torch's ways: the weights that they compute in eval mode become
    parameters. What computes its weights in its own ``forward`` stays as it is.

    Args:
        network: any module.
        input_shape: of one input, such as (channels, height, width) of an image.
        form: how it is seen as a function of one tensor.

    Raises:
        UserError: a parameter is not in float32, or lazy modules cannot be initialised, since the network fails on
            images of that shape.
    """
    _check_float32(network)
    training = network.training
    network.eval()
    initialise(network, input_shape, form)
    for module in [*network.modules()]:
        if parametrize.is_parametrized(module):
            _bake(module)
        own = {name for name, _ in module.named_parameters(recurse=False)}
        for name in own:
            # Such a name may mean something else: torch raises ValueError then.
            with contextlib.suppress(ValueError):
                if name.endswith("_g") and f"{name[:-2]}_v" in own:
                    remove_weight_norm(module, name[:-2])
                elif name.endswith("_orig"):
                    remove_spectral_norm(module, name.removesuffix("_orig"))
                    _forget_spectral_norm(module)
    return network.train(training)


def _check_float32(network: nn.Module) -> None:
    for key, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise UserError(
                f"expected a network with parameters of float32, found {key} of {type(network).__name__} in "
                f"{parameter.dtype}: network.float() converts them"
            )


def _forget_spectral_norm(module: nn.Module) -> None:
    """Remove the hook of the older spectral norm that asks a loaded state dict for its tensors: torch leaves it."""
    hooks = vars(module)["_load_state_dict_pre_hooks"]
    for key, wrapped in [*hooks.items()]:
        if isinstance(wrapped.hook, SpectralNormLoadStateDictPreHook):
            del hooks[key]


def plain_copy(network: nn.Module, input_shape: tuple[int, ...], form: NetworkForm = None) -> nn.Module:
    """Return a copy of a network with plain weights; see ``make_plain``."""
    for module in network.modules():
        for name, value in vars(module).items():
            # The older weight norm keeps its last result, which cannot be copied; the next forward makes it anew.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(module, name, value.detach())
    return make_plain(copy.deepcopy(network), input_shape, form)


def initialise(network: nn.Module, input_shape: tuple[int, ...], form: NetworkForm = None) -> None:
    """Give lazy modules their shapes by running two images of zeros through the network, if there are any.

    Raises:
        UserError: the network fails on images of that shape.
    """
    if not any(is_lazy(part) for part in [*network.parameters(), *network.buffers()]):
        return
    training = network.training
    try:
        with torch.no_grad():
            one_tensor_network(network.eval(), form)(torch.zeros(2, *input_shape))
        network.train(training)
    except Exception as error:
        raise UserError(
            f"expected a network that takes images of shape {tuple(input_shape)}, found that "
            f"{type(network).__name__} fails on one: {first_line(error)}"
        ) from error


def _bake(module: nn.Module) -> None:
    """Replace the parametrizations of a module by what they give; in place, whatever torch shares with its copies."""
    lists = dict(module.parametrizations.items())  # type: ignore[operator, union-attr]
    with torch.no_grad():
        values = {name: getattr(module, name).detach().clone() for name in lists}
    own = {name: [*one.parameters(recurse=False)] for name, one in lists.items()}
    # torch gives the module a class of its own, which copies share: its base is the class that it had before.
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        if own[name]:
            trained = any(part.requires_grad for part in own[name])
            module.register_parameter(name, nn.Parameter(value, requires_grad=trained))
        else:
            module.register_buffer(name, value)
