"""The export formats, by name.

To add one, write its writer and what runs it, and add an entry to ``FORMATS``. Both are imported when first used, so
that the command line can read the names without importing torch.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emomc.common.errors import UserError, UserFact
from emomc.common.files import atomic_write, write_text
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.export.c.arithmetic import Arithmetic
from emomc.export.c.toolchain import COMPILER
from emomc.export.onnx_targets import OnnxOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from emomc.export.verification import EvaluationConditions, ExpectedScores, ReadBack
    from emomc.packed_file.network import PackedNetwork


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What a format leaves open."""

    coding: str = "best"
    """For ``emomc`` and ``c``: a name of ``CODINGS``, or ``best`` for the shortest per layer."""
    onnx: OnnxOptions | None = None
    """For ``onnx``; None: what suits onnxruntime."""
    activation_bits: int = FULL_ACTIVATION_BITS
    """For ``onnx`` and ZigZag: bits of inputs that are not rounded, as the search counted them."""

    name: str = "network"
    """For ``c``: what the names of functions begin with; see ``identifier``."""
    arithmetic: Arithmetic | None = None
    """For ``c``: of the layers; None: int8 if the network can have it."""

    def check_runs(self, format: FormatName) -> None:
        """Check that a file can be run here.

        Raises:
            UserError: it is for a tool that computes no classes, or there is no compiler.
        """
        if (missing := self.missing_to_run(format)) is not None:
            raise UserError(f"expected {missing}")

    def missing_to_run(self, format: FormatName) -> str | None:
        """Return what would be needed to run a file here, and what is found; None: nothing."""
        if format == "onnx" and self.onnx is not None and not self.onnx.target.runs_in_onnxruntime:
            return f"a target that can be verified, found {self.onnx.target.name}"
        if format == "c" and shutil.which(COMPILER) is None:
            return f"a C compiler ({COMPILER}) to run the source, found none"
        return None


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """One format."""

    name: str
    """Name on the command line."""
    summary: str
    """Description for help texts."""
    write: Callable[[Path, PackedNetwork, ExportOptions, nn.Module | None], int]
    """Path, packed network, options, and a user's network before folding -> bytes written."""
    running: Callable[[Path, PackedNetwork, nn.Module | None], AbstractContextManager[nn.Module]]
    """Path, network, and a user's network -> the file as a network that runs while the context is open."""
    exact: bool = True
    """Whether it computes what the search did, in the same order: counts are the same, on the same machine."""
    header_of: Callable[[Path], str] | None = None
    """Written file -> the text of a header ``.h`` that goes beside it; None: none does."""
    facts_of: Callable[[Path], str] | None = None
    """Written file -> what to say of it; None: nothing."""
    packages: tuple[str, ...] = ()
    """Packages that writing and checking a file need, of the extra ``export``."""


def _write_packed(path: Path, packed: PackedNetwork, options: ExportOptions, network: nn.Module | None) -> int:
    from emomc.packed_file.writer import write_packed

    return write_packed(path, packed, options.coding)


def _write_onnx(path: Path, packed: PackedNetwork, options: ExportOptions, network: nn.Module | None) -> int:
    from emomc.export.onnx_graph import write_onnx

    return write_onnx(path, packed, network, options=options.onnx, activation_bits=options.activation_bits)


def _write_dense(path: Path, packed: PackedNetwork, options: ExportOptions, network: nn.Module | None) -> int:
    from emomc.export.state_dict import write_dense

    return write_dense(path, packed, network)


def _write_c(path: Path, packed: PackedNetwork, options: ExportOptions, network: nn.Module | None) -> int:
    from emomc.export.c.writing import write_c

    return write_c(path, packed, network, name=options.name, coding=options.coding, arithmetic=options.arithmetic)


def _header_of_c(path: Path) -> str:
    from emomc.export.c.writing import header_of

    return header_of(path)


def _facts_of_c(path: Path) -> str:
    from emomc.export.c.writing import facts_of

    return facts_of(path)


def _running(format: str) -> Callable[..., AbstractContextManager[nn.Module]]:
    """Return a function of ``emomc.export.running`` that is imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module("emomc.export.running"), f"running_{format}")(*arguments)

    return call


FORMATS: Mapping[str, ExportFormat] = {
    format.name: format
    for format in (
        ExportFormat(
            "emomc",
            "packed file of the size that the search counted",
            _write_packed,
            _running("packed"),
        ),
        ExportFormat(
            "onnx",
            "for toolchains, see --target",
            _write_onnx,
            _running("onnx"),
            exact=False,
            packages=("onnx", "onnxscript", "onnxruntime"),
        ),
        ExportFormat(
            "c",
            "a .c and a .h in C99 without dependencies, for microcontrollers",
            _write_c,
            _running("c"),
            exact=False,
            header_of=_header_of_c,
            facts_of=_facts_of_c,
        ),
        ExportFormat(
            "torch",
            "dense float32 state dict as safetensors",
            _write_dense,
            _running("dense"),
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
    options: ExportOptions | None = None,
    network: nn.Module | None = None,
    expected: ExpectedScores | None = None,
    verify: Callable[[Path], None] | None = None,
) -> int:
    """Write a compressed network.

    Args:
        path: the file to create or replace; it is written completely or not at all.
        packed: the network.
        format: a name of ``FORMATS``.
        options: what the format leaves open; None: as they are by default.
        network: a user's network before folding; None for a network of the zoo.
        expected: scores that the file must give before it takes its name, if it can be run here.
        verify: called with the path of the file before it takes its name, which it does not if an error is raised.

    Returns:
        Bytes written.

    Raises:
        UserError: the format is unknown, the file gives other scores, or as ``write_packed`` and ``write_onnx``.
    """
    chosen, options = _format(format), options or ExportOptions()
    missing = options.missing_to_run(format)
    with atomic_write(path) as partial:
        written = chosen.write(partial, packed, options, network)
        if expected is not None and missing is not None and format == "c":
            warnings.warn(f"the scores of the file were not checked: expected {missing}", UserFact, stacklevel=2)
        elif expected is not None and missing is None:
            with chosen.running(partial, packed, network) as exported:
                expected.check(exported, f"the file of the format {format}")
        if verify is not None:
            verify(partial)
        if chosen.header_of is not None:
            write_text(path.with_suffix(".h"), chosen.header_of(partial))
    return written


def verify_export(
    path: Path,
    format: FormatName,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None = None,
) -> ReadBack:
    """Read an exported file and classify images with it.

    Args:
        path: the file.
        format: its format, a name of ``FORMATS``.
        packed: the network that was exported.
        images: float, (n, channels, height, width), normalised.
        labels: int64, (n,).
        conditions: how the search evaluated it.
        network: a user's network before folding.

    Raises:
        UserError: the file cannot be read.
    """
    from emomc.export.loading import unpack_network
    from emomc.export.verification import compare_classes, evaluate_as_searched

    chosen = _format(format)
    with chosen.running(path, packed, network) as exported:
        if chosen.exact:
            return evaluate_as_searched(exported, images, labels, len(packed.description.class_names), conditions)
        return compare_classes(exported, unpack_network(packed, network), images, labels, conditions)


def _format(name: str) -> ExportFormat:
    if name not in FORMATS:
        raise UserError(f"expected a format of {', '.join(FORMATS)}, found {name!r}")
    return FORMATS[name]
