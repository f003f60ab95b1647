"""The export formats, by name.

To add one, write its writer and its verifier, and add an entry to ``FORMATS``. Both are imported when first used, so
that the command line can read the names without importing torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emomc.common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from emomc.export.verification import EvaluationConditions
    from emomc.packed_file.network import PackedNetwork


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """One format."""

    name: str
    """Name on the command line."""
    summary: str
    """Description for help texts."""
    write: Callable[[Path, PackedNetwork, str, nn.Module | None], int]
    """Path, packed network, coding, and a user's network before folding -> bytes written."""
    count_correct: Callable[..., int] | None
    """Arguments of ``verify_export`` except the format -> images classified correctly; None: it cannot be run."""
    exact: bool = True
    """Whether that number equals the search's exactly, on the same machine."""


def _write_packed(path: Path, packed: PackedNetwork, coding: str, network: nn.Module | None) -> int:
    from emomc.packed_file.writer import write_packed

    return write_packed(path, packed, coding)


def _write_onnx(path: Path, packed: PackedNetwork, coding: str, network: nn.Module | None) -> int:
    from emomc.export.onnx_graph import write_onnx

    return write_onnx(path, packed, network)


def _write_onnx_for_zigzag(path: Path, packed: PackedNetwork, coding: str, network: nn.Module | None) -> int:
    from emomc.export.onnx_graph import write_onnx_for_zigzag

    return write_onnx_for_zigzag(path, packed, network)


def _write_dense(path: Path, packed: PackedNetwork, coding: str, network: nn.Module | None) -> int:
    from emomc.export.state_dict import write_dense

    return write_dense(path, packed)


def _count_correct_packed(*arguments: object) -> int:
    from emomc.export.verification import count_correct_packed

    return count_correct_packed(*arguments)  # type: ignore[arg-type]


def _count_correct_dense(*arguments: object) -> int:
    from emomc.export.verification import count_correct_dense

    return count_correct_dense(*arguments)  # type: ignore[arg-type]


def _count_correct_onnx(*arguments: object) -> int:
    from emomc.export.verification import count_correct_onnx

    return count_correct_onnx(*arguments)  # type: ignore[arg-type]


FORMATS: Mapping[str, ExportFormat] = {
    format.name: format
    for format in (
        ExportFormat("emomc", "packed file of the size that the search counted", _write_packed, _count_correct_packed),
        ExportFormat("onnx", "integer weights, for onnxruntime", _write_onnx, _count_correct_onnx, exact=False),
        ExportFormat("onnx-zigzag", "for the accelerator model ZigZag only", _write_onnx_for_zigzag, None),
        ExportFormat("torch", "dense float32 state dict as safetensors", _write_dense, _count_correct_dense),
    )
}
"""Name -> format."""

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]


def export_network(
    path: Path, packed: PackedNetwork, format: FormatName, *, coding: str = "best", network: nn.Module | None = None
) -> int:
    """Write a compressed network.

    Args:
        path: the file to create or replace; it is written completely or not at all.
        packed: the network.
        format: a name of ``FORMATS``.
        coding: for ``emomc``: a name of ``CODINGS``, or ``best`` for the shortest per layer.
        network: for the ONNX formats: a user's network before folding; None for a network of the zoo.

    Returns:
        Bytes written.

    Raises:
        UserError: the format is unknown, or as ``write_packed`` and ``write_onnx``.
    """
    return _format(format).write(path, packed, coding, network)


def verify_export(
    path: Path,
    format: FormatName,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None = None,
) -> int:
    """Read an exported file and count the images that it classifies correctly.

    Args:
        path: the file.
        format: its format, a name of ``FORMATS``.
        packed: the network that was exported.
        images: float, (n, channels, height, width), normalised.
        labels: int64, (n,).
        conditions: how the search evaluated it.
        network: a user's network before folding.

    Raises:
        UserError: the file cannot be read, or the format cannot be run.
    """
    count_correct = _format(format).count_correct
    if count_correct is None:
        raise UserError(f"expected a format that can be verified, found {format}")
    return count_correct(path, packed, images, labels, conditions, network)


def _format(name: str) -> ExportFormat:
    if name not in FORMATS:
        raise UserError(f"expected a format of {', '.join(FORMATS)}, found {name!r}")
    return FORMATS[name]
