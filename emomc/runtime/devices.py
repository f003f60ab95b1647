"""The devices that training runs on, in Lightning's terms."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that training runs on, and their settings, in Lightning's terms."""

    accelerator: str = "auto"
    """auto, cpu, gpu, ..."""
    devices: str | int = "auto"
    """A count, a list such as ``0,``, or auto."""
    num_nodes: int = 1
    """Number of machines."""
    strategy: str = "auto"
    """How devices work together: auto, ddp, ..."""
    precision: str = "32-true"
    """Arithmetic of the training, such as 32-true or bf16-mixed."""
    deterministic: bool = False
    """Give bit-identical results each time on a GPU too, which is slower; on a CPU they always are."""
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Any other argument of Lightning's Trainer."""
