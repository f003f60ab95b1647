"""Recording what the network inside a LightningModule is called with, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.networks.interface import ONLY_INPUT, NetworkInterface, Part, Path, described, leaves
from emomc.networks.joined import arguments_of


class NetworkCalls:
    """Keeps the first inputs of a network while it is open, and the shapes of what it takes and returns.

    Whatever form the batches of a LightningModule have, this is what its network takes.
    """

    def __init__(self, network: nn.Module, samples: int) -> None:
        """Set the network, and how many samples to keep at most."""
        self.batches: list[Tensor] = []
        """The inputs of each call, (n, ...), on the CPU; several are joined."""
        self.paused = False
        """Whether nothing is kept."""
        self._network = network
        self._samples = samples
        self._inputs: tuple[Part, ...] = ()
        self._returned: dict[Path, Any] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> NetworkCalls:
        self._handles = [
            self._network.register_forward_pre_hook(self._keep, with_kwargs=True),
            self._network.register_forward_hook(self._look),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def left(self) -> int:
        """How many samples are still to be kept."""
        return self._samples - sum(map(len, self.batches))

    def inputs(self) -> Tensor:
        """Return the inputs that were kept, (n, ...).

        Raises:
            UserError: the network was not called.
        """
        if not self.batches:
            raise UserError(
                f"expected {type(self._network).__name__} to be called as a whole by the steps of its module, found "
                f"that it is not"
            )
        return torch.cat(self.batches)

    def interface(self) -> NetworkInterface | None:
        """Return the inputs and outputs; None if there is one tensor of either.

        Raises:
            UserError: the network returned something else than tensors of samples.
        """
        returned = self._returned
        _check(returned, f"{type(self._network).__name__} to return float tensors of samples, (n, ...)")
        found = NetworkInterface(self._inputs, described(returned) if [*returned] != [()] else ())
        return None if found == NetworkInterface() else found

    def _keep(self, network: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self.paused:
            return
        name = type(network).__name__
        tensors = dict(arguments_of(given, named))
        _check(tensors, f"{name} to be called with float tensors of samples, (n, ...)")
        parts = described(tensors) if [*tensors] != [ONLY_INPUT] else ()
        joined = NetworkInterface(parts).join_inputs([*tensors.values()])
        known = self.batches[0].shape[1:] if self.batches else joined.shape[1:]
        if joined.shape[1:] != known or joined.ndim < 2 or (self.batches and parts != self._inputs):
            raise UserError(f"expected inputs of {name} of one shape, (n, ...), found {_listed(tensors)} after others")
        self._inputs = parts
        if self.left > 0:
            self.batches.append(joined[: self.left].detach().float().cpu().clone())

    def _look(self, network: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        self._returned = {path: value for path, value in leaves(returned) if value is not None}


def _check(found: Mapping[Path, Any], expected: str) -> None:
    """Check that all values are float tensors with as many samples.

    Raises:
        UserError: one is not.
    """
    values = [*found.values()]
    right = values and all(isinstance(value, Tensor) and value.is_floating_point() and value.ndim for value in values)
    if not right or len({len(value) for value in values}) > 1:
        raise UserError(f"expected {expected}, found {_listed(found) or 'none'}")


def _listed(found: Mapping[Path, Any]) -> str:
    return " and ".join(
        f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        for value in found.values()
    )
