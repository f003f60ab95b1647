"""Turning out-of-memory errors into one line that tells the user what to lower."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from emomc.common.errors import UserError, first_line

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


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _ON_CPU)
