"""The devices that training runs on, in Lightning's terms."""

from __future__ import annotations

import dataclasses
from typing import Any

from emomc.common.errors import UserError, require

WORKER_TIMEOUT_MINUTES = 10.0
"""Default of how long a process may give no sign of life."""

# Lightning's strategies that start processes by a function; here every process runs the same command.
_BY_FUNCTION = ("spawn", "fork", "notebook")


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
    """Arithmetic of the training, such as 32-true or bf16-mixed."""
    deterministic: bool = False
    """Give bit-identical results each time on a GPU too, which is slower; on a CPU they always are."""
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Any other argument of Lightning's Trainer."""
    worker_timeout: float = WORKER_TIMEOUT_MINUTES
    """Minutes after which a process that gives no sign of life counts as lost, and all end; above 0."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: a value is out of its range.
        """
        require(self.worker_timeout > 0, "a worker_timeout above 0 minutes", self.worker_timeout)
        if any(word in self.strategy for word in _BY_FUNCTION):
            raise UserError(
                f"expected a strategy whose processes run the same command, such as ddp, found {self.strategy!r}"
            )
