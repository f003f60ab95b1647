"""The processes that share a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from emomc.runtime.journal import open_journal


class Processes:
    """This process and the others of a search: their journal, barrier and stop signal."""

    def __init__(self, fabric: Fabric, stopped: Callable[[], bool]) -> None:
        """Open the shared journal; every process must do so.

        Args:
            fabric: that launched the processes.
            stopped: whether this process must start no more evaluations.
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
        """Return whether any process was stopped; the answer is the same on all processes."""
        flag = torch.tensor(int(self.stopped()), device=self._fabric.device)
        return bool(cast(Tensor, self._fabric.all_gather(flag)).any())

    def barrier(self) -> None:
        """Wait until every process has called this method."""
        self._fabric.barrier()
