"""A key-value store that all processes of a run share."""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
from collections.abc import Iterator

from lightning_fabric import Fabric
from torch.distributed import (  # type: ignore[attr-defined] # documented, not in __all__
    DistError,
    PrefixStore,
    Store,
    TCPStore,
)

from emomc.common.errors import ProcessLost

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for a value: longer than any step of any run takes."""


def open_shared_store(fabric: Fabric) -> Store:
    """Return a new, empty store of all processes; every process must call this.

    It is a part of the store with which they found each other, which the launcher or the first process serves.
    """
    name = fabric.broadcast(secrets.token_hex(8))
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=PATIENCE)
    return PrefixStore(name, store)


@contextlib.contextmanager
def lost_connections(message: str) -> Iterator[None]:
    """Turn torch's error about a process that cannot be reached into one line for the user.

    Raises:
        ProcessLost: the block lost the connection to another process; ``message`` says so.
    """
    try:
        yield
    except DistError as error:
        raise ProcessLost(message) from error
