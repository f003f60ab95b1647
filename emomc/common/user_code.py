"""Loading users' classes, named as ``path/to/file.py:Class`` or ``package.module:Class``.

A user's code runs only if it is named on the command line or in a call, never because a file names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from emomc.common.errors import UserError, first_line
from emomc.common.files import sha256_of_file


def names_user_code(spec: str) -> bool:
    """Return whether ``spec`` has the form ``where:Class``."""
    where, _, name = spec.rpartition(":")
    return bool(where) and (name.isidentifier() or where == "timm")


def names_file(spec: str) -> bool:
    """Return whether ``where`` of ``where:Class`` is a file, not a package."""
    return _is_file(spec.rpartition(":")[0])


def load_object(spec: str, what: str) -> Any:
    """Import the object that ``spec`` names.

    A file is imported under a private module name; meanwhile its folder is on the import path. A package may be
    installed or be in the working directory.

    Args:
        spec: ``path/to/file.py:Class`` or ``package.module:Class``.
        what: what the object should be, for the error ("a network").

    Raises:
        UserError: there is no such file, module or name, or importing it fails.
    """
    where, name = _parse(spec, what)
    module = _load_file(Path(where), what) if _is_file(where) else _import(where, what)
    try:
        return getattr(module, name)
    except AttributeError:
        raise UserError(f"expected {what} named {name} in {where}, found no such name there") from None


def source_sha256(spec: str, what: str) -> str:
    """Return the SHA-256, 64 hex digits, of the source file that ``spec`` names; a module is imported to find it.

    Raises:
        UserError: as ``load_object``, or the object has no source file.
    """
    where, _ = _parse(spec, what)
    if _is_file(where):
        return sha256_of_file(_existing(Path(where), what))
    thing = load_object(spec, what)
    try:
        source = inspect.getsourcefile(inspect.unwrap(thing))
    except TypeError:
        source = getattr(sys.modules[where], "__file__", None)
    if source is None:
        raise UserError(f"expected {what} with a source file, found none for {spec}")
    return sha256_of_file(Path(source))


def call_with(thing: Callable[..., Any], given: Mapping[str, Any], offered: Mapping[str, Any], spec: str) -> Any:
    """Call ``thing`` with the user's arguments and with those offered arguments that it accepts.

    An offered argument is passed if the signature names it, or if the signature has ``**kwargs`` and the call does not
    fail because of this argument's name.

    Args:
        thing: a class or a function.
        given: arguments from the user; a name that does not fit is an error.
        offered: arguments from this package; a name that does not fit is left out.
        spec: name of ``thing`` for the error.

    Raises:
        UserError: the arguments do not fit, or the call fails.
    """
    parameters: Mapping[str, inspect.Parameter] = {}
    with contextlib.suppress(ValueError):  # some classes implemented in C have no signature
        parameters = inspect.signature(thing).parameters
    by_name = {key: value for key, value in offered.items() if key in parameters and key not in given}
    by_rest = {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        by_rest = {key: value for key, value in offered.items() if key not in by_name and key not in given}
    while True:
        try:
            return thing(**given, **by_name, **by_rest)
        except Exception as error:
            refused = [key for key in by_rest if f"unexpected keyword argument '{key}'" in str(error)]
            if isinstance(error, TypeError) and refused:
                del by_rest[refused[0]]
                continue
            raise UserError(f"expected to make {spec} with {_listed(given)}, found: {first_line(error)}") from error


def _listed(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in given.items()) or "no arguments"


def _parse(spec: str, what: str) -> tuple[str, str]:
    if not names_user_code(spec):
        raise UserError(f"expected {what} as path/to/file.py:Class or package.module:Class, found {spec!r}")
    where, _, name = spec.rpartition(":")
    return where, name


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where


def _existing(path: Path, what: str) -> Path:
    if not path.is_file():
        raise UserError(f"expected {what} in the file {path}, found no such file")
    return path.resolve()


def _load_file(path: Path, what: str) -> ModuleType:
    file = _existing(path, what)
    # The name depends on path and content: an unchanged file runs once, an edited file runs again.
    digest = hashlib.sha256(f"{file}\0{sha256_of_file(file)}".encode()).hexdigest()
    name = f"_emomc_user_{file.stem}_{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"expected {what} in a Python file, found {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, and pickling for loader workers, look up the module by its name
    try:
        with _importable(file.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"expected {what} in {path}, found that running it fails: {first_line(error)}") from error
    return module


def _import(name: str, what: str) -> ModuleType:
    try:
        with _importable(Path.cwd()):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"expected {what} in the module {name}, found that importing it fails: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on the import path while the block runs, as Python does for a script."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
