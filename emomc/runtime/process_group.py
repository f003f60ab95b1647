"""Leaving the process group that Lightning joins if there are several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def process_group_left() -> Iterator[None]:
    """Leave the process group that Lightning joined in the block, if any, even after an error.

    Lightning leaves it only with NCCL. A Gloo thread that still runs at the interpreter's exit aborts the process.
    """
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
