"""The interface of observers of a search."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from emomc.search.state import Candidate, Search


class SearchCallback(pl.Callback):
    """Base class of observers; a subclass overrides the methods it needs.

    An observer reads the state of the search and never changes it. Observers run on the first process only, and must
    not depend on the order in which they are called.
    """

    def on_search_start(self, search: Search) -> None:
        """Called before the first generation; the search folder exists."""

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        """Called when a candidate has a new evaluation, complete or not, from images or from a log."""

    def on_generation_end(self, search: Search) -> None:
        """Called after each generation; its statistics are the last entry of ``search.history``."""

    def on_phase_start(self, search: Search) -> None:
        """Called when ``search.phase`` has changed: to fine-tuning, and to testing."""

    def on_search_end(self, search: Search) -> None:
        """Called after the front was evaluated on the test images; not called if the search fails."""

    def on_search_teardown(self, search: Search) -> None:
        """Called last, also if the search failed: close here what ``on_search_start`` opened."""


def notify(observers: Sequence[SearchCallback], event: str, *arguments: Any) -> None:
    """Call the method ``event`` of every observer."""
    for observer in observers:
        getattr(observer, event)(*arguments)


@contextlib.contextmanager
def observed(observers: Sequence[SearchCallback], search: Search) -> Iterator[None]:
    """Call ``on_search_start`` of every observer, and ``on_search_teardown`` at the end of the block, also on errors.

    If the teardown of one observer fails, the others are still torn down.
    """
    with contextlib.ExitStack() as teardowns:
        for observer in observers:
            teardowns.callback(observer.on_search_teardown, search)
        notify(observers, "on_search_start", search)
        yield
