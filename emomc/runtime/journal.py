"""A journal that several processes write and all read in the same order."""

from __future__ import annotations

import datetime
import json
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from lightning_fabric import Fabric
from torch.distributed import Store  # type: ignore[attr-defined] # documented, not in __all__

from emomc.common.errors import ProcessLost
from emomc.runtime.shared_store import PATIENCE, lost_connections, open_shared_store

# Seconds between two checks for an entry: short compared to an evaluation, long compared to a check.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005
_PROCESS_LOST = "expected every process to keep running, found one that ended or hangs"


class SharedJournal(Protocol):
    """Entries in one order for all processes. Writing never waits; reading waits only if there is no unread entry."""

    rank: int
    """Rank of this process among the writers."""
    world_size: int

    def write(self, entry: Sequence[int]) -> None:
        """Add an entry."""

    def read(self) -> list[int]:
        """Return the first entry that this process has not read; wait if there is none."""


class OwnJournal:
    """The journal of a single process."""

    rank = 0
    world_size = 1

    def __init__(self) -> None:
        """Start empty."""
        self._unread: deque[list[int]] = deque()

    def write(self, entry: Sequence[int]) -> None:
        """Add an entry."""
        self._unread.append(list(entry))

    def read(self) -> list[int]:
        """Return the first unread entry."""
        return self._unread.popleft()


class StoreJournal:
    """A journal in a key-value store of ``torch.distributed``.

    A counter of the store numbers the entries, and every process reads them in the order of their numbers.
    """

    def __init__(self, store: Store, rank: int, world_size: int, patience: datetime.timedelta = PATIENCE) -> None:
        """Start at the first entry of a store that is used for nothing else; ``patience``: longest wait of a read."""
        self.rank = rank
        self.world_size = world_size
        self._store = store
        self._patience = patience
        self._next = 1

    def write(self, entry: Sequence[int]) -> None:
        """Add an entry.

        Raises:
            ProcessLost: the process that serves the store has ended.
        """
        with lost_connections(_PROCESS_LOST):
            self._store.set(str(self._store.add("entries", 1)), json.dumps(list(entry)))

    def read(self) -> list[int]:
        """Return the first entry that this process has not read; wait if there is none.

        Raises:
            ProcessLost: the process that serves the store has ended, or no entry came within ``patience``.
        """
        key, pause = str(self._next), _SHORTEST_PAUSE
        deadline = time.monotonic() + self._patience.total_seconds()
        with lost_connections(_PROCESS_LOST):
            # Poll: Python would handle no signal during one long wait.
            while not self._store.check([key]):
                if time.monotonic() > deadline:
                    raise ProcessLost(_PROCESS_LOST)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            entry: list[int] = json.loads(self._store.get(key))
        self._next += 1
        return entry


def open_journal(fabric: Fabric) -> SharedJournal:
    """Return a new journal of all processes; every process must call this."""
    if fabric.world_size == 1:
        return OwnJournal()
    return StoreJournal(open_shared_store(fabric), fabric.global_rank, fabric.world_size)
