"""How a search is run: but for the fine-tuning, none of it changes the front."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from emomc.common.errors import UserError
from emomc.search.config import Finetuning

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from pytorch_lightning import LightningDataModule
    from torch import nn


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Under which name, with which code and on which devices a search runs.

    Raises:
        UserError: a number is out of its range.
    """

    name: str = "default"
    """Of the search; it lives in ``search/NAME`` beside the library."""
    network: nn.Module | None = None
    """The library's network, where it is not one of the project's own."""
    data: LightningDataModule | None = None
    """The data that the library was made on, where its manifest does not lead to it."""
    fabric: Fabric | None = None
    """The devices that share the candidates; one, chosen by Lightning, if None. The front does not depend on how many
    there are. Who launched several processes ends them with ``torch.distributed.destroy_process_group()``, as
    ``emomc-search`` does."""
    early_rejection: bool = True
    """Stop evaluating candidates that can no longer matter; the front is the same without."""
    max_minutes: float | None = None
    """Stop after so much time, as Ctrl-C does; the first process's clock decides for all."""
    finetuning: Finetuning | None = None
    """How to fine-tune the points of the final front, if at all; those that pay join it."""
    deterministic: bool = False
    """Same bits each time on a GPU too; on a CPU they are the same without."""
    overwrite: bool = False
    """Begin anew where another search of that name was."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_minutes is not None and not 0 < self.max_minutes < math.inf:
            raise UserError(f"expected a max_time above 0 minutes, found {self.max_minutes}")
