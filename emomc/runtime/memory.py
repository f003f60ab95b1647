"""Turning out-of-memory errors into one line that tells the user what to lower."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import torch

from emomc.common.errors import UserError, first_line

_SLACK = 1 << 28

# Parts of torch's messages on a CPU, where it has no own class of error for this.
_ON_CPU = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")


@contextlib.contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error in the block into one line for the user.

    Args:
        what: what needs the memory ("batches of 256 images").
        remedy: how to need less ("lower --batch_size").

    Raises:
        UserError: memory ran out, on the CPU or on a GPU.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(f"expected memory for {what}, found too little ({first_line(error)}): {remedy}") from error


@contextlib.contextmanager
def little_memory(more: int) -> Iterator[None]:
    """Limit what this process may allocate in the block, where the operating system can: a file may ask for anything.

    Args:
        more: bytes beyond those that the process has; a quarter of a gibibyte is added.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = _address_space()
    if now is None:
        yield
        return
    limits = [limit for limit in (now + more + _SLACK, before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _address_space() -> int | None:
    """Return the bytes of this process's address space; None if the operating system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _ON_CPU)
