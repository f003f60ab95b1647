"""Parsing JSON whose numbers are bounded, since a file may come from anyone."""

from __future__ import annotations

import json
import math
from typing import Any

MOST_DIGITS = 18
"""Digits of a whole number in a file, at most."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has a number that is not finite or a whole number of
            over 18 digits.
    """
    try:
        return json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refused)
    except RecursionError:
        raise ValueError("values nested too deeply") from None


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
