"""Numbers and names as C text."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable

import numpy as np

WIDTH = 116


def float_text(number: float) -> str:
    """Return a float32 number as a C constant that gives the very number."""
    value = np.float32(number)
    if not math.isfinite(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    if value == int(value) and abs(value) < 1 << 24:
        return f"{int(value)}.0f"
    return np.format_float_scientific(value, unique=True, trim="0") + "f"


def lines_of(items: Iterable[str], indent: str = "    ") -> str:
    """Return items with commas, in lines of at most ``WIDTH`` letters."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > WIDTH and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    lines.append(line.rstrip())
    return "\n".join(lines)


def identifier(name: str) -> str:
    """Return a name of letters, digits and underscores, for the names of a program's functions."""
    found = re.sub("[^A-Za-z0-9]+", "_", name).strip("_").lower()
    return (
        found if found and not found[0].isdigit() and not keyword.iskeyword(found) else f"network_{found}".rstrip("_")
    )
