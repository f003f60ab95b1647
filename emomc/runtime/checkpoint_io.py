"""Atomic writing of Lightning's checkpoints."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from emomc.common.files import atomic_write


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
