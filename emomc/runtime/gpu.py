"""What is only for CUDA GPUs: keeping memory between the many short runs of one Trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CUDAAccelerator


class KeptMemoryAccelerator(CUDAAccelerator):
    """Lightning's accelerator, but torch keeps its free GPU memory before and after each run of the Trainer.

    To give it back and ask for it again takes longer than to validate a small network.
    """

    def setup(self, trainer: pl.Trainer) -> None:
        """Do nothing."""

    def teardown(self) -> None:
        """Do nothing."""


def memory_pool(device: torch.device) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return a context in which tensors take their memory from a pool that is never emptied; on a CPU, one without.

    A Trainer empties torch's common pool at the start of each run.
    """
    if device.type != "cuda":
        return contextlib.nullcontext
    pool = torch.cuda.MemPool()
    return lambda: torch.cuda.use_mem_pool(pool, device)
