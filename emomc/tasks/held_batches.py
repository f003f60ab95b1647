"""The batches of a user's loader, held in memory."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from emomc.common.errors import UserError
from emomc.runtime.digests import TensorDigest

LIMIT_BYTES = 4 * 2**30
"""Batches that take more than this are not held: the loader makes them anew for every evaluation."""


class HeldBatches:
    """A loader that keeps the batches of another one the first time, and then gives them again.

    A user's loader may decode files or draw random numbers; every candidate must see the same.
    """

    def __init__(self, loader: Any) -> None:
        """Take a loader of batches of any form that holds tensors."""
        self.sizes: list[int] = []
        """Samples of each batch."""
        self.held = False
        """Whether the batches are in memory."""
        self._loader = loader
        self._batches: list[Any] = []
        self._digest = TensorDigest()
        self._known = False
        self._chosen: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.sizes if self._chosen is None else self._chosen) if self._known else len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if not self._known:
            yield from self._first()
        elif self.held:
            yield from (self._batches[position] for position in self._positions)
        else:
            wanted = {*self._positions}
            yield from (batch for position, batch in enumerate(self._loader) if position in wanted)

    @property
    def samples(self) -> int:
        """Samples of all batches."""
        return sum(self.sizes)

    def choose(self, positions: Sequence[int] | None) -> None:
        """Give only the batches at some positions from now on, in this order; None: all."""
        self._chosen = positions

    def digest(self) -> str:
        """Return a digest of all tensors in the batches, 64 hex digits."""
        return self._digest.hex()

    @property
    def _positions(self) -> Sequence[int]:
        return range(len(self.sizes)) if self._chosen is None else self._chosen

    def _first(self) -> Iterator[Any]:
        self.sizes, self._batches, self._digest = [], [], TensorDigest()
        taken, length = 0, _length(self._loader)
        for batch in self._loader:
            tensors = list(tensors_of(batch))
            if not tensors or not tensors[0].ndim:
                raise UserError("expected validation batches with a tensor of samples, found one without")
            taken += sum(tensor.nbytes for tensor in tensors)
            if taken <= LIMIT_BYTES:
                self._batches.append(batch)
            self.sizes.append(len(tensors[0]))
            for tensor in tensors:
                self._digest.begin(tuple(tensor.shape), tensor.dtype)
                self._digest.add(tensor)
            if len(self.sizes) == length:
                # A Trainer that knows the length does not ask for more.
                self._end(taken)
            yield batch
        self._end(taken)

    def _end(self, taken: int) -> None:
        self.held, self._known = taken <= LIMIT_BYTES, True
        if not self.held:
            self._batches.clear()


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors in a batch of any nesting, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors_of(value)


def with_held(data: pl.LightningDataModule, role: str, source: str) -> tuple[pl.LightningDataModule, list[HeldBatches]]:
    """Return a copy of a data module with one loader alone, whose batches are held, and a list that receives it.

    The copy has all attributes of the module, which steps may read from ``self.trainer.datamodule``. It is set up
    once, at the first use.

    Args:
        data: the user's.
        role: name of the method that the Trainer calls, such as ``val_dataloader``.
        source: name of the method whose loader it gets.
    """
    held: list[HeldBatches] = []
    copied = copy.copy(data)
    own_stage = "test" if source == "test_dataloader" else "fit"
    set_up, load = (_rebound(data, copied, name) for name in ("setup", source))

    def loader() -> HeldBatches:
        if not held:
            made = load()
            if isinstance(made, (list, tuple)) and len(made) == 1:
                (made,) = made
            if isinstance(made, (list, tuple, Mapping)) or made is None:
                raise UserError(f"expected one loader from {source} of {type(data).__name__}, found {_count(made)}")
            held.append(HeldBatches(made))
        return held[0]

    def set_up_once(stage: str | None = None) -> None:
        if not held:
            # Not the stage of the Trainer: users' modules set up their validation data for "fit", few for "validate".
            set_up(own_stage)

    copied.setup = set_up_once  # type: ignore[method-assign]
    copied.teardown = lambda stage=None: None  # type: ignore[method-assign, misc]
    setattr(copied, role, loader)
    return copied, held


def _rebound(data: pl.LightningDataModule, copied: pl.LightningDataModule, name: str) -> Callable[..., Any]:
    """Return a method of a module for its copy; a function that was assigned to the module is taken as it is."""
    method = getattr(data, name)
    function = getattr(method, "__func__", None)
    return method if function is None else types.MethodType(function, copied)


def _count(made: Any) -> str:
    return "none" if made is None else f"{len(made)} of them"
