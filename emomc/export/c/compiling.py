"""Compile a source that was written, and run it on this machine."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from emomc.common.errors import UserError
from emomc.export.c.toolchain import COMPILER, STANDARD


class CompiledSource:
    """A program made of a written source, in a folder that goes with it."""

    def __init__(self, source: Path, flags: Sequence[str] = ("-O2",)) -> None:
        """Compile it.

        Args:
            source: that ``write_c`` wrote.
            flags: of the compiler.

        Raises:
            UserError: the compiler is missing or refuses the source.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="emomc-c-")
        self._program = Path(self._folder.name) / "program"
        (name,) = re.findall(r"^#ifdef (\w+)_MAIN$", source.read_text(encoding="utf-8"), re.MULTILINE)
        # The file may not have its name yet.
        what = ["-x", "c", str(source), "-x", "none", "-lm"]
        command = [COMPILER, *STANDARD, *flags, f"-D{name}_MAIN", "-o", str(self._program), *what]
        try:
            made = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise UserError(f"expected a C compiler ({COMPILER}) to run the source, found none") from None
        if made.returncode:
            raise UserError(f"expected a source that {COMPILER} compiles, found: {_first_line(made.stderr)}")

    def __enter__(self) -> CompiledSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def scores(self, images: Tensor) -> Tensor:
        """Return the class scores of images, (n, classes).

        Args:
            images: float32, (n, channels, height, width), normalised.

        Raises:
            UserError: the program fails.
        """
        given = self._file(images.contiguous().numpy().astype(np.float32).tobytes())
        found = np.frombuffer(self._run("--floats", str(given)), np.float32)
        return torch.from_numpy(found.copy()).reshape(len(images), -1)

    def classes(self, pixels: Tensor) -> Tensor:
        """Return the classes of images, (n,).

        Args:
            pixels: uint8, (n, channels, height, width).

        Raises:
            UserError: the program fails, for one because it does not know how to normalise pixels.
        """
        given = self._file(pixels.contiguous().numpy().tobytes())
        return torch.tensor([int(line) for line in self._run(str(given)).split()], dtype=torch.int64)

    def _file(self, content: bytes) -> Path:
        path = Path(self._folder.name) / "images"
        path.write_bytes(content)
        return path

    def _run(self, *arguments: str) -> bytes:
        ended = subprocess.run([self._program, *arguments], capture_output=True, check=False)
        if ended.returncode:
            message = _first_line(ended.stderr.decode(errors="replace"))
            raise UserError(f"expected the compiled network to run, found status {ended.returncode}: {message}")
        return ended.stdout


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no message")
