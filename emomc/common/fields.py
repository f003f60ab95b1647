"""Building dataclasses from hand-written descriptions, and checking their values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from emomc.common.errors import UserError

T = TypeVar("T")


class FieldError(UserError):
    """A value of a hardware description is wrong; the message starts with its path in the file."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'hardware'}: {problem}")
        self.path = path
        self.problem = problem

    def inside(self, parent: str) -> FieldError:
        """Return the same error with the path of the enclosing value in front of its own."""
        dot = "" if not self.path or self.path.startswith("[") else "."
        return FieldError(parent + dot + self.path, self.problem)


def build(kind: type[T], values: Any, **readers: Callable[[Any], Any]) -> T:
    """Make a dataclass of ``kind`` from a mapping; ``readers`` convert the fields that are not plain values."""
    values = require_mapping(values)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise FieldError(str(key), f"expected one of {', '.join(fields)}, found an unknown key")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING and name != "version"
        if name not in values and not optional:
            raise FieldError(name, "expected a value, found nothing")
    arguments = {}
    for key, value in values.items():
        try:
            arguments[key] = readers[key](value) if key in readers else _frozen(value)
        except FieldError as error:
            raise error.inside(key) from None
    return kind(**arguments)


def require_mapping(values: Any) -> Mapping[Any, Any]:
    """Return ``values`` if it is a mapping; raise a FieldError otherwise."""
    if not isinstance(values, Mapping):
        raise FieldError("", f"expected keys with values, found {show(values)}")
    return values


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def show(value: Any) -> str:
    """Return a wrong value as text for an error message."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value!r}"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def is_count(value: Any) -> bool:
    """Return whether the value is an integer of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def require_number(path: str, value: Any, *, positive: bool = False) -> None:
    """Raise a FieldError unless the value is finite and >= 0 (> 0 if ``positive``)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        bound = "> 0" if positive else ">= 0"
        # YAML 1.1 reads 1e-3 as a text.
        hint = " (write 1.0e-3 for 1e-3)" if isinstance(value, str) and "e" in value.lower() else ""
        raise FieldError(path, f"expected a finite number {bound}, found {show(value)}{hint}")


def check_number(owner: Any, *names: str) -> None:
    """Raise a FieldError unless the named fields of ``owner`` are finite and >= 0."""
    for name in names:
        require_number(name, getattr(owner, name))


def check_positive(owner: Any, name: str) -> None:
    """Raise a FieldError unless the named field of ``owner`` is finite and > 0."""
    require_number(name, getattr(owner, name), positive=True)


def check_count(owner: Any, name: str) -> None:
    """Raise a FieldError unless the named field of ``owner`` is an integer of 1 or more."""
    if not is_count(getattr(owner, name)):
        raise FieldError(name, f"expected an integer >= 1, found {show(getattr(owner, name))}")


def check_text(owner: Any, *names: str) -> None:
    """Raise a FieldError unless the named fields of ``owner`` are texts that are not blank."""
    for name in names:
        if not isinstance(getattr(owner, name), str) or not getattr(owner, name).strip():
            raise FieldError(name, f"expected a text, found {show(getattr(owner, name))}")


def check_choice(owner: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise a FieldError unless the named field of ``owner`` is one of the choices."""
    if getattr(owner, name) not in choices:
        raise FieldError(name, f"expected one of {', '.join(choices)}, found {show(getattr(owner, name))}")
