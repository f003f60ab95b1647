"""Making dataclasses of values from files, with every type checked."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from emomc.common.errors import UserError, shown
from emomc.common.json_values import parse_json

T = TypeVar("T")


def checked(kind: type[T], values: Any, what: str, *, known_only: bool = False) -> T:
    """Return a dataclass made of plain values, whose types are those of its fields.

    Nothing is converted but whole numbers to floats and lists to tuples. What the dataclass itself checks is checked
    too.

    Args:
        kind: the dataclass; its fields may be dataclasses, lists, mappings and so on.
        values: the values by name.
        what: what they are, for the error ("a library's manifest at PATH").
        known_only: refuse names that are no fields; else they are left out.

    Raises:
        UserError: a value is missing or wrong; the error names the first one, or is that of the dataclass itself.
    """
    from pydantic import ValidationError  # takes a tenth of a second to import

    if not isinstance(values, Mapping):
        raise UserError(f"expected {what}, found a {type(values).__name__}")
    dataclass: Any = kind
    fields = {field.name for field in dataclasses.fields(dataclass)}
    if known_only and (unknown := sorted(map(str, values.keys() - fields))):
        raise UserError(f"expected {what}, found the unknown entry {unknown[0]!r}")
    known = {name: value for name, value in values.items() if name in fields}
    try:
        text = json.dumps(known)
        parse_json(text)  # refuses numbers out of all bounds
        found: T = _adapter(dataclass).validate_json(text, strict=True)
    except ValidationError as error:
        raise _one_line(error, what) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"expected {what}, found values that are not plain: {error}") from None
    return found


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "dataclass_type": "an object",
}
"""Kind of a type error -> what was expected."""


def _one_line(error: Any, what: str) -> UserError:
    first = error.errors(include_url=False)[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, UserError):
        return own
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    kind = first["type"]
    if kind == "missing":
        return UserError(f"expected {what} with an entry {place}, found none")
    if kind == "literal_error":
        expected = f"one of {first['ctx']['expected']}"
    else:
        expected = _EXPECTED.get(kind, f"a value that fits ({first['msg'][0].lower()}{first['msg'][1:]})")
    return UserError(f"expected {what} with {expected} as {place or 'its values'}, found {shown(first['input'])}")
