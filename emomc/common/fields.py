"""Building dataclasses from hand-written descriptions, and checking their values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from emomc.common.errors import UserError
from emomc.common.json_values import MOST_DIGITS

T = TypeVar("T")


class FieldError(UserError):
    """Values of a hardware description are wrong; the message starts with the path of the first one in the file."""

    def __init__(self, path: str, problem: str, others: Sequence[FieldError] = ()) -> None:
        super().__init__(f"{path or 'hardware'}: {problem}")
        self.path = path
        self.problem = problem
        self.others = tuple(others)
        """What else is wrong."""

    @property
    def every(self) -> tuple[FieldError, ...]:
        """This error and all others, each alone."""
        alone = FieldError(self.path, self.problem)
        return (alone, *(one for other in self.others for one in other.every))

    def inside(self, parent: str) -> FieldError:
        """Return the same errors with the path of the enclosing value in front of their own."""
        dot = "" if not self.path or self.path.startswith("[") else "."
        return FieldError(parent + dot + self.path, self.problem, [other.inside(parent) for other in self.others])


class Problems:
    """Collects what is wrong, so that one reading of a file tells all of it."""

    def __init__(self) -> None:
        self._found: list[FieldError] = []

    def of(self, check: Callable[..., T], *arguments: Any, inside: str = "", **options: Any) -> T | None:
        """Call a check; return what it returns, or None and keep its error, with ``inside`` in front of its path."""
        try:
            return check(*arguments, **options)
        except FieldError as error:
            self._found.append(error.inside(inside) if inside else error)
            return None

    def end(self) -> None:
        """Raise one FieldError for all that was found, if anything was."""
        if self._found:
            first, *others = (one for error in self._found for one in error.every)
            raise FieldError(first.path, first.problem, others)


def build(kind: type[T], values: Any, **readers: Callable[[Any], Any]) -> T:
    """Make a dataclass of ``kind`` from a mapping; ``readers`` convert the fields that are not plain values."""
    values = require_mapping(values)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    problems = Problems()
    for key in values:
        if key not in fields:
            problems.of(fail, str(key), f"expected one of {', '.join(fields)}, found an unknown key")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING and name != "version"
        if name not in values and not optional:
            problems.of(fail, name, "expected a value, found nothing")
    read = {key: readers.get(key, _frozen) for key in values if key in fields}
    arguments = {key: problems.of(reader, values[key], inside=key) for key, reader in read.items()}
    problems.end()
    return kind(**arguments)


def fail(path: str, problem: str) -> None:
    """Raise a FieldError."""
    raise FieldError(path, problem)


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
    """Raise a FieldError unless the value is >= 0 (> 0 if ``positive``) and below 1e18."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        bound = "> 0" if positive else ">= 0"
        # YAML 1.1 reads 1e-3 as a text.
        hint = " (write 1.0e-3 for 1e-3)" if isinstance(value, str) and "e" in value.lower() else ""
        raise FieldError(path, f"expected a finite number {bound}, found {show(value)}{hint}")
    if value >= 10**MOST_DIGITS:
        # Products with counts could be infinite.
        raise FieldError(path, f"expected a number below 1e{MOST_DIGITS}, found {show(value)}")


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
