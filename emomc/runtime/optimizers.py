"""The optimizer and the schedule of a recipe."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from emomc.runtime.recipe import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of a network's parameters; norms and biases have no weight decay."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """Return the schedule of the learning rate, to be advanced at every step.

    Args:
        optimizer: from ``make_optimizer``.
        recipe: schedule, learning rate and warm-up.
        steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of one epoch.
    """
    if recipe.schedule == "one_cycle":
        # One step more than is taken, since OneCycleLR raises an error when it is advanced beyond its end.
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=recipe.learning_rate,
            total_steps=steps + 1,
            pct_start=max(recipe.warmup_fraction, 1.5 / (steps + 1)),
            cycle_momentum=False,
        )
    if recipe.schedule == "cosine":
        return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))
    return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step // steps_per_epoch // 30))
