"""A key-value store that all processes of a run share."""

from __future__ import annotations

import datetime
import os
import secrets

from lightning_fabric import Fabric
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined] # documented, not in __all__

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for a value: longer than any step of any run takes."""


def open_shared_store(fabric: Fabric) -> Store:
    """Return a new, empty store of all processes; every process must call this.

    It is a part of the store with which they found each other, which the launcher or the first process serves.
    """
    name = fabric.broadcast(secrets.token_hex(8))
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=PATIENCE)
    return PrefixStore(name, store)
