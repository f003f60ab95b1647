"""Export of a packed network as a dense float32 state dict with BatchNorm folded."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from emomc.common.files import atomic_write
from emomc.export.loading import dense_state
from emomc.packed_file.network import PackedNetwork


def write_dense(path: Path, packed: PackedNetwork, network: nn.Module | None = None) -> int:
    """Write the folded network's state dict as safetensors; return the bytes written."""
    state = {name: tensor.contiguous() for name, tensor in dense_state(packed, network).items()}
    data = save(state, metadata={"network": packed.description.network})
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return len(data)
