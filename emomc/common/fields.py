"""Building and checking the typed values of a description that people write by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from emomc.common.errors import UserError

T = TypeVar("T")


class FieldError(UserError):
    """A value of a hardware description is wrong; the message starts with its path in the file."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'hardware'}: {problem}")
        self.path = path
        self.problem = problem

    def inside(self, parent: str) -> FieldError:
        """Return the same error with the path of the enclosing value put in front."""
        dot = "" if not self.path or self.path.startswith("[") else "."
        return FieldError(parent + dot + self.path, self.problem)


def read_yaml(path: Path, what: str) -> Any:
    """Read a YAML file of plain values.

    Args:
        path: the file.
        what: what the file should be, for the error ("a hardware file").

    Raises:
        UserError: the file cannot be read, is no YAML, has a key twice, or refers to a part of itself.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected {what} at {path}, found one that cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"expected {what} in YAML at {path}, found: {problem}") from None


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text; raise a yaml.YAMLError or a RecursionError if there are none."""
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(yaml.SafeLoader):
    """Refuses what plain YAML lets pass: a key that stands twice, and aliases, by which a line becomes gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Make the node that comes next."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{self.peek_event().anchor}", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make the mapping of a YAML node."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # refused by the base class
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def build(kind: type[T], values: Any, **readers: Callable[[Any], Any]) -> T:
    """Make a dataclass of ``kind`` from a mapping; ``readers`` make the fields that are no plain values."""
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
    """Return the values if they are keys with values; raise a FieldError otherwise."""
    if not isinstance(values, Mapping):
        raise FieldError("", f"expected keys with values, found {show(values)}")
    return values


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def show(value: Any) -> str:
    """Return a wrong value as an error message names it."""
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
        # YAML 1.1 takes 1e-3 for a text.
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
    """Raise a FieldError unless the named fields of ``owner`` are texts that say something."""
    for name in names:
        if not isinstance(getattr(owner, name), str) or not getattr(owner, name).strip():
            raise FieldError(name, f"expected a text, found {show(getattr(owner, name))}")


def check_choice(owner: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise a FieldError unless the named field of ``owner`` is one of the choices."""
    if getattr(owner, name) not in choices:
        raise FieldError(name, f"expected one of {', '.join(choices)}, found {show(getattr(owner, name))}")
