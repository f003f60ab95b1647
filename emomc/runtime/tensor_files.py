"""Reading safetensors files into memory, so that no file stays open that another process may change."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
from torch import Tensor

from emomc.common.errors import UserError
from emomc.common.files import read_bytes
from emomc.common.json_values import parse_json

MOST_BYTES = 16 << 30
"""Size limit of a file of tensors."""


def read_tensors(path: Path, what: str, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, in the order of their names, and its metadata.

    Args:
        path: the file.
        what: what it holds, for errors ("the weights of level 50 %").
        sha256: SHA-256 that its bytes must have; None: any.

    Raises:
        UserError: the file is missing, is damaged or has another checksum.
    """
    content = read_checked(path, what, sha256)
    try:
        tensors = safetensors.torch.load(content)
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = header.get("__metadata__", {})
    # The reader of safetensors and torch raise errors of many kinds for files that were made by hand.
    except Exception as error:
        raise UserError(f"expected {what} in {path}, found a file that cannot be read: {error}") from None
    # The reader gives them in no fixed order.
    return dict(sorted(tensors.items())), metadata


def read_checked(path: Path, what: str, sha256: str | None) -> bytes:
    """Return the content of a file of tensors; arguments and errors as for ``read_tensors``."""
    content = read_bytes(path, what, most_bytes=MOST_BYTES)
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"expected {path} with the checksum {sha256[:12]} of the manifest, found {found[:12]}: "
            f"the file was changed or swapped"
        )
    return content
