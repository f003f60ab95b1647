"""Training settings of one run of a Trainer."""

from __future__ import annotations

import dataclasses
from typing import Literal

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["one_cycle", "cosine", "halving"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Optimizer, learning rate and schedule of one run."""

    learning_rate: float
    """Largest learning rate of the run."""
    optimizer: OptimizerName = "adamw"
    """``sgd`` uses Nesterov momentum 0.9."""
    weight_decay: float = 0.01
    schedule: ScheduleName = "one_cycle"
    """``one_cycle`` rises and falls once; ``cosine`` falls from the start; ``halving`` halves every 30 epochs."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes, 0..1."""
    channels_last: bool = True
    """Store weights and images channels last, the faster layout on CPUs and tensor cores."""
    warmup_fraction: float = 0.3
    """Share of a one-cycle run in which the learning rate rises."""
