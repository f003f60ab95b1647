"""Fine-tune the network inside any LightningModule for few bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from emomc.compression.quantization import quantize_symmetric
from emomc.networks.layers import LayerShape, as_stored, output_first

FEWEST_BITS, MOST_BITS = 2, 8
"""Between which the bits of each layer are drawn."""


class RandomBits(pl.Callback):
    """Runs every other batch with a random number of bits in each layer, so that quantization costs little afterwards.

    The step's forward and backward pass meet quantized weights, and the optimizer changes the trained ones by the
    gradients found there (a straight-through estimator).

    Source of random bits: Jin, Yang, Liao, "AdaBits: Neural Network Quantization with Adaptive Bit-Widths", CVPR 2020.
    """

    def __init__(self, network: nn.Module, layers: Iterable[LayerShape]) -> None:
        """Take the network and its compressible layers."""
        self._network = network
        self._layers = tuple(layers)
        self._trained: dict[str, Tensor] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Quantize the weights of every other batch."""
        if batch_idx % 2:
            self._quantize()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Put the trained weights back, which the optimizer changes."""
        self._restore()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Put the trained weights back after a batch without a step."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Put the trained weights back, before a checkpoint may be written."""
        self._restore()

    @torch.no_grad()
    def _quantize(self) -> None:
        drawn = torch.randint(FEWEST_BITS, MOST_BITS + 1, (len(self._layers),)).tolist()
        for layer, bits in zip(self._layers, drawn, strict=True):
            weight = self._network.get_parameter(layer.weight_key)
            self._trained[layer.weight_key] = weight.detach().clone()
            quantized = quantize_symmetric(output_first(weight, layer), bits, per_channel=True).dequantize()
            # Not a change that autograd sees: the backward pass uses the same numbers.
            weight.data.copy_(as_stored(quantized, layer))

    @torch.no_grad()
    def _restore(self) -> None:
        for key, weight in self._trained.items():
            self._network.get_parameter(key).data.copy_(weight)
        self._trained.clear()
