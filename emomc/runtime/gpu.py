"""What is only for CUDA GPUs: keeping memory between short runs of one Trainer, and training by CUDA graphs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CUDAAccelerator
from torch import Tensor, nn


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


class GraphedNetwork:
    """Runs a network in training as CUDA graphs: a forward and a backward pass are one launch each, not hundreds.

    The first batch of a size is run a few times, which leaves weights, buffers and random numbers as they were, and its
    operations are recorded. Later batches of this size repeat them on their own images, so what the network does must
    not depend on anything else but its weights and buffers. It returns one tensor.
    """

    def __init__(self, network: nn.Module) -> None:
        """Record nothing yet; the network stays on its GPU and keeps its tensors as long as this is used."""
        self._network = network
        self._graphs: dict[torch.Size, Callable[[Tensor], Tensor]] = {}
        # Batches of all sizes use the same memory, one after the other.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network gives for a batch of images on the GPU."""
        if images.shape not in self._graphs:
            self._graphs[images.shape] = self._recorded(images)
        return self._graphs[images.shape](images)

    def _recorded(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        shell = _Shell(self._network)
        before = {name: buffer.clone() for name, buffer in self._network.named_buffers()}
        precision = torch.get_autocast_dtype("cuda")
        with (
            torch.random.fork_rng(devices=[images.device]),
            # Weights that were cast before the recording would be cast once and for all.
            torch.autocast("cuda", precision, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
        ):
            graphed: Callable[..., Any] = torch.cuda.make_graphed_callables(
                shell, (images.detach().clone(),), allow_unused_input=True, pool=self._pool
            )
        with torch.no_grad():
            for name, buffer in self._network.named_buffers():
                buffer.copy_(before[name])
        return graphed


class _Shell(nn.Module):
    """A module of its own: recording replaces its ``forward``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)
        return scores
