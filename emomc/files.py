"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emomc.errors import UserError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it to ``path`` once the block has ended well.

    The content and the new name are flushed to disk. After an error nothing stands under either name.

    Args:
        path: the file to make or replace; its folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process number keeps two writers apart; a leftover of a killed one is overwritten or ignored.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
        _flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 with its line ends as they are, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all.

    Raises:
        ValueError: a number is not finite; JSON has no such number.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what the file should be, for the error ("a library manifest").

    Raises:
        UserError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"expected {what} at {path}, found no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"expected {what} at {path}, found a file that cannot be read as JSON: {error}") from None


def existing_file(path: Path, what: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"expected {what} at {path}, found no such file")
    return path


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs; the folder is made if it is missing.

    The lock is the operating system's, so it ends with the process that holds it, however that ends.

    Raises:
        UserError: another process holds the lock; its number is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(f"expected {folder} to be free, found it in use by process {holder}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
