"""Writing one compressed network in the format that its user needs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from safetensors.torch import save
from torch import nn

from emomc.common.errors import UserError
from emomc.common.files import whole_file
from emomc.export.loading import dense_state
from emomc.export.onnx_graph import write_onnx, write_onnx_for_zigzag
from emomc.packed_file.writer import PackedNetwork, write_packed

ExportFormat = Literal["emomc", "onnx", "onnx-zigzag", "torch"]


def export_network(
    path: Path, packed: PackedNetwork, format: ExportFormat, *, coding: str = "best", network: nn.Module | None = None
) -> int:
    """Write a compressed network.

    Args:
        path: the file to make or replace; whole or not at all.
        packed: the network.
        format: ``emomc``: the packed file, as small as the search said. ``onnx``: integer weights, runs in onnxruntime.
            ``onnx-zigzag``: for the accelerator model ZigZag. ``torch``: a dense float32 state dict of the network with
            its BatchNorm folded, as safetensors, to go on with elsewhere.
        coding: of ``emomc``: normal, csr, coo, bitmap, or best per layer.
        network: of the ONNX formats: a user's network before folding, where it is not one of the project's own.

    Returns:
        Bytes written.

    Raises:
        UserError: the format is none of these, or see ``write_packed`` and ``write_onnx``.
    """
    if format == "emomc":
        return write_packed(path, packed, coding)
    if format == "onnx":
        return write_onnx(path, packed, network)
    if format == "onnx-zigzag":
        return write_onnx_for_zigzag(path, packed, network)
    if format == "torch":
        return write_dense(path, packed)
    raise UserError(f"expected a format of {', '.join(get_args(ExportFormat))}, found {format!r}")


def write_dense(path: Path, packed: PackedNetwork) -> int:
    """Write the folded network's state dict, weights in float32, as safetensors; return the bytes written."""
    state = {name: tensor.contiguous() for name, tensor in dense_state(packed).items()}
    data = save(state, metadata={"network": packed.description.network})
    with whole_file(path) as partial:
        partial.write_bytes(data)
    return len(data)
