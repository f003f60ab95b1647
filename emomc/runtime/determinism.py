"""Bit-identical results of equal runs, on a GPU too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from emomc.common.errors import UserError, first_line

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool = True) -> Iterator[None]:
    """Make torch use only deterministic algorithms while the block runs; slower on a GPU.

    ``docs/determinism.md`` says what is deterministic without this. cuBLAS reads its setting only at the first use of
    the GPU.

    Args:
        wanted: if False, nothing is changed.

    Raises:
        UserError: torch has no deterministic algorithm for an operation of the network.
    """
    if not wanted:
        yield
        return
    was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_CUBLAS)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    os.environ[_CUBLAS] = workspace or ":4096:8"
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise UserError(
            f"expected operations that can be deterministic, found: {first_line(error)} Leave out --deterministic"
        ) from error
    finally:
        torch.use_deterministic_algorithms(was[0], warn_only=was[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            del os.environ[_CUBLAS]
