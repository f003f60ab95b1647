"""Finding the network to compress inside a user's LightningModule."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import nn

from emomc.common.errors import UserError

LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
"""Classes of layers that can be compressed."""


def find_network(module: pl.LightningModule, named: str | None = None) -> str:
    """Return the name of the attribute of a LightningModule that is the network to compress.

    It is the only attribute with layers that are trained. What is trained must lie in it, since a library keeps the
    network alone.

    Args:
        module: the user's.
        named: the attribute, if the user names it; it may have dots.

    Raises:
        UserError: there is no such attribute, layers lie in several, or something else is trained, too.
    """
    kind = type(module).__name__
    attribute = named or _only_attribute(module, kind)
    try:
        network = module.get_submodule(attribute)
    except AttributeError:
        raise UserError(f"expected an attribute of {kind} that is a network, found no {attribute!r}") from None
    if not any(isinstance(part, LAYERS) for part in network.modules()):
        raise UserError(f"expected convolution or linear layers in the attribute {attribute} of {kind}, found none")
    within = {id(parameter) for parameter in network.parameters()}
    outside = [name for name, one in module.named_parameters() if one.requires_grad and id(one) not in within]
    if outside:
        raise UserError(
            f"expected all that {kind} trains in its attribute {attribute}, the network that a library keeps, found "
            f"{outside[0]} elsewhere: put both into one torch.nn.Module"
        )
    return attribute


def _only_attribute(module: pl.LightningModule, kind: str) -> str:
    trained = {
        name.partition(".")[0]: None
        for name, part in module.named_modules()
        if isinstance(part, LAYERS) and any(one.requires_grad for one in part.parameters(recurse=False))
    }
    if len(trained) == 1:
        return next(iter(trained))
    found = "none" if not trained else f"them in {', '.join(trained)}"
    raise UserError(
        f"expected the convolution and linear layers of {kind} in one attribute that is a torch.nn.Module, found "
        f"{found}: put them into one, or name it with --network_attribute"
    )
