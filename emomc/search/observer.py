"""What a search tells those who watch it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from emomc.search.state import Candidate, Search


class SearchCallback(pl.Callback):
    """Watches a search. The state is the search's; a callback reads it and never changes it.

    A subclass overrides what it needs. Callbacks may run in any order, and only on the first of several processes.
    """

    def on_search_start(self, search: Search) -> None:
        """Called before the first generation, after the search folder is there."""

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        """Called when a candidate has been evaluated, rejected, or answered from the log."""

    def on_generation_end(self, search: Search) -> None:
        """Called when the survivors of a generation stand."""

    def on_search_end(self, search: Search) -> None:
        """Called when no more generation follows and the front has seen the test set."""


def tell(observers: Sequence[SearchCallback], event: str, *arguments: Any) -> None:
    """Call one of the methods of ``SearchCallback`` on everyone who watches."""
    for observer in observers:
        getattr(observer, event)(*arguments)
