"""What a search tells those who observe it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from emomc.search.state import Candidate, Search


class SearchCallback(pl.Callback):
    """Observes a search. The state is the search's; an observer reads it and never changes it.

    A subclass overrides what it needs. Observers may be told in any order, and only on the first of several processes.
    """

    def on_search_start(self, search: Search) -> None:
        """Called before the first generation, after the search folder is there."""

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        """Called when a candidate has been evaluated, rejected, or answered from the log."""

    def on_generation_end(self, search: Search) -> None:
        """Called when the survivors of a generation stand; ``search.history`` has its statistics."""

    def on_phase_start(self, search: Search) -> None:
        """Called when ``search.phase`` has changed."""

    def on_search_end(self, search: Search) -> None:
        """Called when no more generation follows and the front has been tested."""

    def on_search_teardown(self, search: Search) -> None:
        """Called last, whatever ended the search: close here what ``on_search_start`` opened."""


def notify(observers: Sequence[SearchCallback], event: str, *arguments: Any) -> None:
    """Call one of the methods of ``SearchCallback`` on every observer."""
    for observer in observers:
        getattr(observer, event)(*arguments)


@contextlib.contextmanager
def observed(observers: Sequence[SearchCallback], search: Search) -> Iterator[None]:
    """Tell observers that a search starts and, whatever ends the block, that it is over.

    One that fails while it is torn down keeps no other from being told.
    """
    with contextlib.ExitStack() as teardowns:
        for observer in observers:
            teardowns.callback(observer.on_search_teardown, search)
        notify(observers, "on_search_start", search)
        yield
