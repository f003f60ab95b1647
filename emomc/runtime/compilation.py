"""Running a network through a compiled graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CompiledNetwork(nn.Module):
    """Runs a network through a graph that torch compiles for batches of one size; on a CPU, to C++.

    Weights are inputs of the graph: it is compiled once, whatever is copied into the network. Batches of another size
    run as they would without it.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        """Set what to compile; the first batch of the size compiles it, which takes seconds to minutes.

        Args:
            network: maps a float batch (n, channels, height, width) to scores, without branches on values.
            batch_size: images of a batch.
        """
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        # With more threads, torch would start processes that stay.
        self._compiled = torch.compile(network.forward, fullgraph=True, dynamic=False, options={"compile_threads": 1})

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of a batch."""
        run = self._compiled if len(images) == self.batch_size else self.network
        scores: Tensor = run(images)
        return scores
