"""Recording what the network inside a LightningModule is called with."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError


class NetworkInputs:
    """Keeps the first inputs of a network while it is open.

    Whatever form the batches of a LightningModule have, this is what its network takes.
    """

    def __init__(self, network: nn.Module, samples: int) -> None:
        """Set the network, and how many samples to keep at most."""
        self.batches: list[Tensor] = []
        """The inputs of each call, (n, ...), on the CPU."""
        self._network = network
        self._samples = samples
        self._handle: Any = None

    def __enter__(self) -> NetworkInputs:
        self._handle = self._network.register_forward_pre_hook(self._keep, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    @property
    def left(self) -> int:
        """How many samples are still to be kept."""
        return self._samples - sum(map(len, self.batches))

    def tensor(self) -> Tensor:
        """Return what was kept, (n, ...).

        Raises:
            UserError: the network was not called.
        """
        if not self.batches:
            raise UserError(
                f"expected {type(self._network).__name__} to be called as a whole by the steps of its module, found "
                f"that it is not"
            )
        return torch.cat(self.batches)

    def _keep(self, network: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        name = type(network).__name__
        if len(given) != 1 or named or not isinstance(given[0], Tensor) or not given[0].is_floating_point():
            forms = [_form(value) for value in given] + [f"{key}={_form(value)}" for key, value in named.items()]
            raise UserError(
                f"expected {name} to be called with one float tensor, found {' and '.join(forms) or 'none'}"
            )
        (inputs,) = given
        known = self.batches[0].shape[1:] if self.batches else inputs.shape[1:]
        if inputs.shape[1:] != known or inputs.ndim < 2:
            raise UserError(
                f"expected inputs of {name} of one shape, (n, ...), found {tuple(inputs.shape)} after (n, "
                f"{', '.join(map(str, known))})"
            )
        if self.left > 0:
            self.batches.append(inputs[: self.left].detach().float().cpu().clone())


def _form(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
