"""Parsing JSON whose numbers and texts are harmless, since a file may come from anyone."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# The last are bytes of a file's name that are no UTF-8, as Python holds them: they cannot be written.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MOST_DIGITS = 18
"""Digits of a whole number in a file, at most."""


def has_control_characters(text: str) -> bool:
    """Return whether a text has characters that no file may hold: a terminal acts on them, or they are no UTF-8."""
    return _CONTROL.search(text) is not None


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, has a number that is not finite or a whole number of
            over 18 digits, or has control characters, which a terminal would act on.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refused)
        _check_texts(value)
    except RecursionError:
        raise ValueError("values nested too deeply") from None
    return value


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        if has_control_characters(value):
            raise ValueError(f"a text with control characters: {value[:24]!r}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(key)
            _check_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner)


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"a number too large: {digits[:24]}")
    return value


def _refused(name: str) -> Any:
    raise ValueError(f"a number that is not finite: {name}")
