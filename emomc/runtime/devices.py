"""Where networks are trained, in Lightning's terms."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytorch_lightning as pl

from emomc.runtime.checkpoint_io import WholeCheckpointIO
from emomc.runtime.lightning_refusals import lightning_refusals


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where training runs, in Lightning's terms."""

    accelerator: str = "auto"
    """auto, cpu, gpu, ..."""
    devices: str | int = "auto"
    """A count, a list such as ``0,``, or auto."""
    num_nodes: int = 1
    """Machines."""
    strategy: str = "auto"
    """How devices work together: auto, ddp, ..."""
    precision: str = "32-true"
    """Arithmetic of the training, such as 32-true or bf16-mixed."""
    deterministic: bool = False
    """Same bits each time on a GPU too, where that is slower; on a CPU they are the same without."""
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Any other argument of Lightning's Trainer."""

    def make_trainer(self, *, enable_progress_bar: bool, **more: Any) -> pl.Trainer:
        """Return a Trainer on these devices.

        Args:
            enable_progress_bar: unless ``trainer`` says otherwise.
            more: further arguments, which ``trainer`` must not have.

        Raises:
            UserError: Lightning refuses a setting.
        """
        options: dict[str, Any] = {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": self.strategy,
            "precision": self.precision,
            "enable_model_summary": False,
            "enable_progress_bar": enable_progress_bar,
            "num_sanity_val_steps": 0,
            "plugins": [WholeCheckpointIO()],
            # A level of a small network is over after a dozen steps.
            "log_every_n_steps": 5,
        }
        with lightning_refusals():
            return pl.Trainer(**{**options, **self.trainer}, **more)
