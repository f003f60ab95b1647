"""Writing Lightning's checkpoints atomically, and finding damaged ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from emomc.common.errors import UserError, first_line
from emomc.common.files import atomic_write
from emomc.runtime.tensor_files import read_torch


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in its own folder and renames it.

    Lightning's own class may move it from another disk, which copies it and so is not atomic.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint. It is serialised in memory first: torch gives no clear error for a full disk.

        Raises:
            UserError: it cannot be written; an earlier checkpoint at this path is kept.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_write(Path(path)) as partial:
            partial.write_bytes(content.getbuffer())


def check_checkpoint(path: Path, remedy: str) -> None:
    """Check that a checkpoint can be read, before a Trainer does.

    Args:
        path: the file.
        remedy: what the user can do about a damaged one.

    Raises:
        UserError: it cannot.
    """
    try:
        read_torch(path, "a checkpoint")
    # The reader of a damaged file raises errors of many kinds.
    except Exception as error:
        raise UserError(
            f"expected the checkpoint of an unfinished training at {path}, found a file that cannot be read "
            f"({first_line(error)[:100]}): {remedy}"
        ) from error
