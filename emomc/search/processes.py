"""The processes that share a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from emomc.runtime.journal import open_journal


class Processes:
    """This process among those of a search: what they share, and whether they were told to stop."""

    def __init__(self, fabric: Fabric, stopped: Callable[[], bool]) -> None:
        """Open the journal of the processes; all of them must do so.

        Args:
            fabric: that launched them.
            stopped: whether this process was told to begin nothing more.
        """
        self.journal = open_journal(fabric)
        self.stopped = stopped
        self._fabric = fabric

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self._fabric.global_rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self._fabric.world_size

    def any_stopped(self) -> bool:
        """Say whether any process was told to stop; all of them say the same."""
        flag = torch.tensor(int(self.stopped()), device=self._fabric.device)
        return bool(cast(Tensor, self._fabric.all_gather(flag)).any())

    def barrier(self) -> None:
        """Wait until every process is here."""
        self._fabric.barrier()
