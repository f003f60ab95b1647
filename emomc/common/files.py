"""Atomic writing, reading, hashing and locking of files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError
from emomc.common.json_values import parse_json

MOST_BYTES = 256 << 20
"""Size limit of a description."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` to write to; rename it to ``path`` if the block succeeds.

    The content and the new name are flushed to disk. If the block fails, the temporary file is removed and ``path``
    stays as it was.

    Args:
        path: the file to make or replace; its folder is made if it is missing.

    Raises:
        UserError: the file cannot be written (the disk may be full), or ``path`` is a folder, a link or a device.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"expected to write a new file or replace one at {path}, found something else there")
    # The process number separates two writers, and tells ``remove_leftovers`` whether the writer still runs.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
            _flush_folder(path.parent)
        finally:
            # NotADirectoryError: a folder of the path is a file, so nothing was written.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                partial.unlink()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of writing a file or folder in the block into one line for the user.

    Raises:
        UserError: the operating system refuses: no space, no permission, a file where a folder should be, ...
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"expected to write {path}, found: {error.strerror or error}") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed writers in a folder and below."""
    for partial in folder.rglob(".*.partial"):
        number = partial.name.split(".")[-2]
        if number.isdecimal() and not _is_alive(int(number)):
            partial.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's process, or not a process number
    return True


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically in UTF-8, with its line ends unchanged."""
    with atomic_write(path) as partial:
        partial.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON.

    Raises:
        ValueError: a number is not finite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what the file should be, for the error ("a library manifest").

    Raises:
        UserError: the file is missing or too large, is not JSON, or has a number out of all bounds.
    """
    try:
        return parse_json(read_bytes(path, what))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"expected {what} at {path}, found a file that cannot be read as JSON: {error}") from None


def read_bytes(path: Path, what: str, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file.
        what: what the file should be, for the error.
        most_bytes: size limit.

    Raises:
        UserError: the file is missing, is no regular file, is larger, or cannot be read.
    """
    try:
        # Opening a pipe for reading would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise UserError(f"expected {what} at {path}, found no regular file")
            if about.st_size > most_bytes:
                raise UserError(f"expected {what} of at most {most_bytes} bytes at {path}, found {about.st_size}")
            return file.read()
    except FileNotFoundError:
        raise UserError(f"expected {what} at {path}, found no such file") from None
    except OSError as error:
        raise UserError(f"expected {what} at {path}, found a file that cannot be read: {error.strerror}") from None


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
    """Lock a folder against other processes while the block runs; the folder is made if it is missing.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
        UserError: another process, named by its number, holds the lock, or the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Never through a link: the file is emptied.
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read(20).strip() or "unknown"
            raise UserError(f"expected {folder} to be free, found it in use by process {holder}") from None
        with writing(folder):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


@contextlib.contextmanager
def shared_lock(path: Path, *, exclusive: bool, holder: str) -> Iterator[None]:
    """Hold a lock that many may share or one may have alone, while the block runs.

    Args:
        path: the lock's file, which is made; it stays empty.
        exclusive: have it alone.
        holder: who may hold it now, for the error ("a search of this library").

    Raises:
        UserError: another process holds it so that it cannot be shared, or the file cannot be made.
    """
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"expected {path.parent} to be free, found it in use by {holder}") from None
    try:
        yield
    finally:
        os.close(descriptor)
