"""Options of how a search runs; apart from fine-tuning, they do not change its front."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from emomc.common.errors import UserError
from emomc.search.config import Finetuning, SearchConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric import Fabric
    from pytorch_lightning import LightningDataModule
    from torch import nn

    from emomc.search.state import Search
    from emomc.tasks.users_task import UsersTask


_MOST_MINUTES = 10_000_000


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Name, user code, devices and other options of one run of a search.

    Raises:
        UserError: a number is out of its range.
    """

    name: str = "default"
    """Name of the search; its files are in ``search/NAME`` beside the library."""
    network: nn.Module | None = None
    """The network of the library, if it is a user's network."""
    data: LightningDataModule | None = None
    """The data that the library was made from, if they cannot be opened from its manifest."""
    task: UsersTask | None = None
    """The LightningModule and the data of the library, if it is of a user's own task; ``network`` and ``data`` are then
    its own."""
    dataset: str | None = None
    """Name of ``data`` in front.json; None: that of a built-in dataset, or the library's."""
    fabric: Fabric | None = None
    """The devices that share the evaluations; their number does not change the front. None: one device, chosen by
    Lightning. If you launch several processes, call ``torch.distributed.destroy_process_group()`` at the end, as
    ``emomc-search`` does."""
    early_rejection: bool = True
    """Stop the evaluation of candidates that can no longer survive; this does not change the front."""
    max_minutes: float | None = None
    """Stop after this many minutes, as with Ctrl-C; the clock of the first process decides."""
    finetuning: Finetuning | None = None
    """How to fine-tune points of the final front, or promising ones; None: no fine-tuning. Points that improve join the
    front."""
    deterministic: bool = False
    """Use deterministic algorithms, so that results are bit-identical on a GPU too; on a CPU they always are."""
    overwrite: bool = False
    """Replace an earlier search of this name."""
    check: Callable[[Search], None] | None = None
    """Called before anything is searched or written; what it raises ends the search."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_minutes is not None and not 0 < self.max_minutes <= _MOST_MINUTES:
            raise UserError(f"expected a max_time above 0 and up to {_MOST_MINUTES} minutes, found {self.max_minutes}")

    def most_candidates(self, config: SearchConfig, genotypes: int | None = None) -> int:
        """Return how many candidates a search has at most: those it asks for, and each again if it is fine-tuned.

        Args:
            config: the settings that decide the front.
            genotypes: number of the genotypes that the library allows, if it is known.
        """
        most = config.most_candidates if genotypes is None else min(genotypes, config.most_candidates)
        return most if self.finetuning is None else 2 * most
