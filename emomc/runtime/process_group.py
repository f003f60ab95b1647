"""The group of processes that Lightning joins where there are several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def process_group_left() -> Iterator[None]:
    """Leave the group of processes that Lightning joined in the block, if any, however the block ends.

    Lightning leaves it only with NCCL. A thread of Gloo that still runs when the interpreter ends aborts the process.
    """
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
