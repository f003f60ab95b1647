"""Running a user's module without what its Trainers of the training have: other processes, and its own callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytorch_lightning as pl
from torchmetrics import Metric

from emomc.common.replaced import replaced


@contextlib.contextmanager
def in_own_process(module: pl.LightningModule, data: pl.LightningDataModule) -> Iterator[None]:
    """Keep a Trainer from waiting for other processes while the block runs; each may be at another candidate.

    A Trainer waits for them around ``prepare_data``, which is left out: see ``UsersTask.prepare_data``. Metrics of
    torchmetrics would be summed over the processes. The module's own callbacks are left out, too.

    Args:
        module: that the Trainer runs.
        data: that it gets.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(without_callbacks(module))
        for owner, kind in ((module, pl.LightningModule), (data, pl.LightningDataModule)):
            stack.enter_context(replaced(owner, "prepare_data", kind.prepare_data))
        for part in module.modules():
            if isinstance(part, Metric):
                stack.enter_context(replaced(part, "distributed_available_fn", _alone))
        yield


def without_callbacks(module: pl.LightningModule) -> contextlib.AbstractContextManager[None]:
    """Leave out what ``configure_callbacks`` of a module returns while the block runs.

    Early stopping, say, would end the training of a level before it is pruned.
    """
    return replaced(module, "configure_callbacks", list)


def has_callbacks(module: pl.LightningModule) -> bool:
    """Return whether a module configures callbacks of its own."""
    return type(module).configure_callbacks is not pl.LightningModule.configure_callbacks


def _alone() -> bool:
    return False
