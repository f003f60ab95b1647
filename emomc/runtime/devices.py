"""The devices that training runs on, in Lightning's terms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from emomc.common.errors import UserError, is_whole, require, shown

WORKER_TIMEOUT_MINUTES = 10.0
"""Default of how long a process may give no sign of life."""

# Lightning's strategies that start processes by a function; here every process runs the same command.
_BY_FUNCTION = ("spawn", "fork", "notebook")

_MOST_DEVICES = 1 << 16
_LONGEST = 2000


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_WHOLE_LEVELS = "every level to be trained for its epochs (pre_train_epochs, pre_prune_epochs)"
_ALL_IMAGES = "every level to be validated on all images"

_TRAINER: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_steps": (lambda value: value == -1, _WHOLE_LEVELS),
    "max_epochs": (lambda value: False, _WHOLE_LEVELS),
    "max_time": (lambda value: value is None, _WHOLE_LEVELS),
    "fast_dev_run": (lambda value: value is False, _WHOLE_LEVELS),
    "limit_train_batches": (lambda value: value is None or (_is_number(value) and value > 0), "images to train on"),
    # 1 is one batch, 1.0 is all.
    "limit_val_batches": (lambda value: value is None or (isinstance(value, float) and value == 1), _ALL_IMAGES),
    "overfit_batches": (lambda value: _is_number(value) and value == 0, _ALL_IMAGES),
    "check_val_every_n_epoch": (is_whole, "a whole number of at least 1"),
    "val_check_interval": (
        lambda value: value is None or (isinstance(value, float) and 0 < value <= 1),
        "a share of an epoch above 0 and up to 1.0",
    ),
    "accumulate_grad_batches": (is_whole, "a whole number of at least 1"),
    "gradient_clip_val": (lambda value: value is None or (_is_number(value) and value >= 0), "a number of 0 or more"),
    "enable_checkpointing": (lambda value: value in (None, True), "checkpoints of unfinished levels"),
}
"""Argument of Lightning's Trainer -> whether a value leaves levels whole, and what is expected of it."""


# Levels are in float32.
_OTHER_WEIGHTS = ("64-true", "64", "16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def _anything(value: Any) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that training runs on, and their settings, in Lightning's terms."""

    accelerator: str = "auto"
    """auto, cpu, gpu, ..."""
    devices: str | int = "auto"
    """A count, a list such as ``0,``, or auto; with auto, as many as torchrun has started."""
    num_nodes: int | None = None
    """Number of machines; by default as many as torchrun uses, else 1."""
    strategy: str = "auto"
    """How devices work together: auto, ddp, ..."""
    precision: str = "32-true"
    """Arithmetic of the training, such as 32-true or bf16-mixed; weights stay in float32."""
    deterministic: bool = False
    """Give bit-identical results each time on a GPU too, which is slower; on a CPU they always are."""
    cuda_graphs: bool = False
    """Repeat recorded steps of training, which keeps one GPU busier; for a network that runs alike in every batch."""
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Any other argument of Lightning's Trainer, but for those that would cut a level short or its validation."""
    worker_timeout: float = WORKER_TIMEOUT_MINUTES
    """Minutes after which a process that gives no sign of life counts as lost, and all end; above 0."""

    def __post_init__(self) -> None:
        """Check what Lightning does not check, or checks when it is too late.

        Raises:
            UserError: a number is out of its range, or an argument of the Trainer would leave levels half-made.
        """
        require(0 < self.worker_timeout < math.inf, "a worker_timeout above 0 minutes", self.worker_timeout)
        if any(word in self.strategy for word in _BY_FUNCTION):
            raise UserError(
                f"expected a strategy whose processes run the same command, such as ddp, found {self.strategy!r}"
            )
        # Lightning makes a list of so many.
        for count in (self.devices, self.num_nodes):
            text = str(count)
            if len(text) > _LONGEST or (text.isdecimal() and int(text) > _MOST_DEVICES):
                raise UserError(f"expected at most {_MOST_DEVICES} devices and num_nodes, found {shown(count)}")
        for precision in (self.precision, self.trainer.get("precision")):
            if str(precision) in _OTHER_WEIGHTS:
                raise UserError(
                    f"expected a precision that keeps weights in float32, such as 32-true, 16-mixed or bf16-mixed, "
                    f"found {precision!r}"
                )
        for name, value in self.trainer.items():
            fits, expected = _TRAINER.get(name, (_anything, ""))
            if not fits(value):
                raise UserError(f"expected {expected}, found trainer.{name} = {shown(value)}")
