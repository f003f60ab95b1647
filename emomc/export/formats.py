"""The export formats, by name.

To add one, write its writer and its verifier, and add an entry to ``FORMATS``. Both are imported when first used, so
that the command line can read the names without importing torch.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emomc.common.errors import UserError
from emomc.common.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor, nn

    from emomc.export.verification import EvaluationConditions, ExpectedScores
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
    scores: Callable[[Path, PackedNetwork, Tensor, nn.Module | None], Tensor] | None
    """Path, network, images, and a user's network -> the class scores of the file; None: it cannot be run."""
    exact: bool = True
    """Whether that number equals the search's exactly, on the same machine."""
    packages: tuple[str, ...] = ()
    """Packages that writing and checking a file need, of the extra ``export``."""


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

    return write_dense(path, packed, network)


def _verification(name: str) -> Callable[..., Any]:
    """Return a function of ``emomc.export.verification`` that is imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module("emomc.export.verification"), name)(*arguments)

    return call


# torch's exporter needs the second.
_ONNX = ("onnx", "onnxscript")

FORMATS: Mapping[str, ExportFormat] = {
    format.name: format
    for format in (
        ExportFormat(
            "emomc",
            "packed file of the size that the search counted",
            _write_packed,
            _verification("count_correct_packed"),
            _verification("scores_packed"),
        ),
        ExportFormat(
            "onnx",
            "integer weights, for onnxruntime",
            _write_onnx,
            _verification("count_correct_onnx"),
            _verification("scores_onnx"),
            exact=False,
            packages=(*_ONNX, "onnxruntime"),
        ),
        ExportFormat(
            "onnx-zigzag", "for the accelerator model ZigZag only", _write_onnx_for_zigzag, None, None, packages=_ONNX
        ),
        ExportFormat(
            "torch",
            "dense float32 state dict as safetensors",
            _write_dense,
            _verification("count_correct_dense"),
            _verification("scores_dense"),
        ),
    )
}
"""Name -> format."""

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]


def check_packages(format: FormatName) -> None:
    """Check that the packages are installed that writing a format needs.

    Raises:
        UserError: one is missing.
    """
    for package in _format(format).packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"expected the packages of pip install 'emomc[export]', found no {package}")


def export_network(
    path: Path,
    packed: PackedNetwork,
    format: FormatName,
    *,
    coding: str = "best",
    network: nn.Module | None = None,
    expected: ExpectedScores | None = None,
    verify: Callable[[Path], None] | None = None,
) -> int:
    """Write a compressed network.

    Args:
        path: the file to create or replace; it is written completely or not at all.
        packed: the network.
        format: a name of ``FORMATS``.
        coding: for ``emomc``: a name of ``CODINGS``, or ``best`` for the shortest per layer.
        network: a user's network before folding; None for a network of the zoo.
        expected: scores that the file must give before it takes its name. A format that cannot be run is not checked.
        verify: called with the path of the file before it takes its name, which it does not if an error is raised.

    Returns:
        Bytes written.

    Raises:
        UserError: the format is unknown, the file gives other scores, or as ``write_packed`` and ``write_onnx``.
    """
    chosen = _format(format)
    with atomic_write(path) as partial:
        written = chosen.write(partial, packed, coding, network)
        if expected is not None and chosen.scores is not None:
            expected.check(chosen.scores(partial, packed, expected.images, network), f"the file of the format {format}")
        if verify is not None:
            verify(partial)
    return written


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
