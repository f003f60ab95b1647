"""Reading files of tensors into memory, so that no file stays open that another process may change."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from emomc.common.errors import UserError, first_line, require
from emomc.common.files import read_bytes
from emomc.common.json_values import parse_json
from emomc.runtime.memory import little_memory

MOST_BYTES = 16 << 30
"""Size limit of a file of tensors."""

# Memory that reading a file may take beside its content, in multiples of its size.
_TIMES_ITS_SIZE = 4


def read_tensors(path: Path, what: str, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, in the order of their names, and its metadata.

    Args:
        path: the file.
        what: what it holds, for errors ("the weights of level 50 %").
        sha256: SHA-256 that its bytes must have; None: any.

    Raises:
        UserError: the file is missing, is damaged or has another checksum.
    """
    return parse_tensors(read_checked(path, what, sha256), path, what)


def parse_tensors(content: bytes, path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what the content of a safetensors file holds; see ``read_tensors``."""
    try:
        with little_memory(_TIMES_ITS_SIZE * len(content)):
            tensors = safetensors.torch.load(content)
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = header.get("__metadata__", {})
    # The reader of safetensors and torch raise errors of many kinds for files that were made by hand.
    except Exception as error:
        raise UserError(f"expected {what} in {path}, found a file that cannot be read: {first_line(error)}") from None
    # The reader gives them in no fixed order.
    return dict(sorted(tensors.items())), metadata


def read_torch(path: Path, what: str, harmless: Sequence[Any] = ()) -> Any:
    """Return what ``torch.save`` wrote, if it consists of tensors and plain values.

    Args:
        path: the file.
        what: what it holds, for errors.
        harmless: further types that it may hold.

    Raises:
        UserError: the file is missing.
        Exception: of many kinds: it is something else, or what it holds takes more than a few times its size.
    """
    content = read_bytes(path, what, most_bytes=MOST_BYTES)
    _refuse_bomb(content)
    with little_memory(_TIMES_ITS_SIZE * len(content)), torch.serialization.safe_globals(list(harmless)):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _refuse_bomb(content: bytes) -> None:
    """Refuse an archive whose parts are together larger than itself: torch stores them as they are."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            require(
                sum(part.file_size for part in archive.infolist()) <= len(content),
                "parts that are not compressed",
                "compressed ones",
            )


def read_checked(path: Path, what: str, sha256: str | None) -> bytes:
    """Return the content of a file of tensors; arguments and errors as for ``read_tensors``."""
    content = read_bytes(path, what, most_bytes=MOST_BYTES)
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"expected {path} with the checksum {sha256[:12]} of the manifest, found {found[:12]}: "
            f"the file was changed or swapped"
        )
    return content
