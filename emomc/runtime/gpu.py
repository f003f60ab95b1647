"""What is only for CUDA GPUs: keeping memory between the many short runs of one Trainer."""

from __future__ import annotations

import contextlib
import functools

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


def kept_memory(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context in which tensors take their memory from a pool that is never emptied; on a CPU, one without.

    A Trainer empties torch's common pool at the start of each run.
    """
    return torch.cuda.use_mem_pool(_pool(device), device) if device.type == "cuda" else contextlib.nullcontext()


@functools.cache
def _pool(device: torch.device) -> torch.cuda.MemPool:
    """Return the pool of a device, which lives as long as the process: torch aborts if one ends while one is in use."""
    return torch.cuda.MemPool()
