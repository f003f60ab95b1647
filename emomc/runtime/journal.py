"""A journal that several processes write, and that each reads in the same order."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from lightning_fabric import Fabric
from torch.distributed import DistError, Store, TCPStore  # type: ignore[attr-defined] # documented, not in __all__

from emomc.common.errors import UserError

PATIENCE = datetime.timedelta(days=1)
"""How long a reader waits for an entry: longer than any candidate takes. Who started the processes ends them all where
one of them dies."""

# Between two looks for an entry, seconds: short against a candidate, long against a look.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005
_NOBODY_LEFT = "expected every process to go on, found one that ended or stands still"


class SharedJournal(Protocol):
    """Entries in one order. Nobody waits to write, and a reader waits only where there is nothing left to read."""

    rank: int
    """Of this process among those that write."""
    world_size: int

    def write(self, entry: Sequence[int]) -> None:
        """Add an entry."""

    def read(self) -> list[int]:
        """Return the first entry that this process has not read yet; wait for it if need be."""


class OwnJournal:
    """The journal of a process without others."""

    rank = 0
    world_size = 1

    def __init__(self) -> None:
        """Begin an empty one."""
        self._unread: deque[list[int]] = deque()

    def write(self, entry: Sequence[int]) -> None:
        """Add an entry."""
        self._unread.append(list(entry))

    def read(self) -> list[int]:
        """Return the first entry that was not read yet."""
        return self._unread.popleft()


class StoreJournal:
    """A journal in a key-value store of ``torch.distributed``.

    A counter of the store gives each entry its number. Numbers are given in one order, so all read that one.
    """

    def __init__(self, store: Store, rank: int, world_size: int, patience: datetime.timedelta = PATIENCE) -> None:
        """Begin at the first entry of a store that holds nothing else; wait so long for an entry."""
        self.rank = rank
        self.world_size = world_size
        self._store = store
        self._patience = patience
        self._next = 1

    def write(self, entry: Sequence[int]) -> None:
        """Add an entry.

        Raises:
            UserError: the process that serves the store is gone.
        """
        with _store_reached():
            self._store.set(str(self._store.add("entries", 1)), json.dumps(list(entry)))

    def read(self) -> list[int]:
        """Return the first entry that this process has not read yet; wait for it if need be.

        Raises:
            UserError: the process that serves the store is gone, or nobody wrote for as long as the store is patient.
        """
        key, pause = str(self._next), _SHORTEST_PAUSE
        deadline = time.monotonic() + self._patience.total_seconds()
        with _store_reached():
            # Not one long wait: Python would handle no signal before its end.
            while not self._store.check([key]):
                if time.monotonic() > deadline:
                    raise UserError(_NOBODY_LEFT)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            entry: list[int] = json.loads(self._store.get(key))
        self._next += 1
        return entry


def open_journal(fabric: Fabric) -> SharedJournal:
    """Return a new journal of all processes; all of them must ask for it."""
    if fabric.world_size == 1:
        return OwnJournal()
    # Where the processes of Fabric and of torchrun met.
    host = os.environ["MASTER_ADDR"]
    if fabric.is_global_zero:
        served = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    port = fabric.broadcast(served.port if fabric.is_global_zero else 0)
    store = served if fabric.is_global_zero else TCPStore(host, port, timeout=PATIENCE)
    return StoreJournal(store, fabric.global_rank, fabric.world_size)


@contextmanager
def _store_reached() -> Iterator[None]:
    try:
        yield
    except DistError as error:
        raise UserError(_NOBODY_LEFT) from error
