"""Lightning's checkpoints, whole or not there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from emomc.common.files import atomic_write


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints beside their place, where Lightning moves them from another disk, byte after byte."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint, in memory first: torch's own writer says little of a disk that is full.

        Raises:
            UserError: it cannot be written; nothing stands in its place then, or what stood there before.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_write(Path(path)) as partial:
            partial.write_bytes(content.getbuffer())
