"""Damaging a file: its bytes, or the values of JSON and YAML."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

VALUES = [None, True, -1, 0, 1, 2**31, 10**17, 10**400, 1.5, 1e308, float("inf"), float("nan"), "", "x", "\0", "[/x]"]
VALUES += ["\x1b[31m", "9" * 30, [], {}, [[]], {"a": 1}, ["x"] * 3]
"""What a value is replaced by."""


def damaged(whole: bytes, structure: str, random: np.random.Generator) -> bytes:
    """Return a file with damage in its structure, if it has one, or in its bytes."""
    if structure == "" or random.random() < 0.3:
        return _damaged_bytes(whole, random)
    if structure == "jsonl":
        lines = whole.splitlines()
        place = int(random.integers(len(lines)))
        lines[place] = json.dumps(_damaged_value(json.loads(lines[place]), random)).encode()
        return b"\n".join(lines) + b"\n"
    if structure == "json":
        return json.dumps(_damaged_value(json.loads(whole), random)).encode()
    return yaml.safe_dump(_damaged_value(yaml.safe_load(whole), random)).encode()


def _damaged_bytes(whole: bytes, random: np.random.Generator) -> bytes:
    content = bytearray(whole)
    for _ in range(int(random.integers(1, 5))):
        if not content:
            break
        # Most of what a file says of itself is at its beginning or its end.
        reach = len(content) if random.random() < 0.4 else min(len(content), 512)
        place = int(random.integers(reach)) * (1 if random.random() < 0.8 else -1)
        kind = int(random.integers(5))
        if kind == 0:
            content[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            content[place] = int(random.integers(256))
        elif kind == 2:
            del content[place : place + int(random.integers(1, 64))]
        elif kind == 3:
            content[place:place] = bytes(random.integers(0, 256, int(random.integers(1, 32)), np.uint8))
        else:
            content[place:place] = content[place : place + int(random.integers(1, 64))]
    return bytes(content)


def _damaged_value(value: Any, random: np.random.Generator) -> Any:
    value = copy.deepcopy(value)
    places = list(_places(value))
    for _ in range(int(random.integers(1, 3))):
        owner, key = places[int(random.integers(len(places)))]
        if (key not in owner) if isinstance(owner, dict) else key >= len(owner):
            continue
        kind = int(random.integers(5))
        if kind == 0:
            del owner[key]
        elif kind == 1:
            owner[key] = [owner[key]]
        elif kind == 2 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif kind == 3:
            other, other_key = places[int(random.integers(len(places)))]
            if (other_key in other) if isinstance(other, dict) else other_key < len(other):
                owner[key] = copy.deepcopy(other[other_key])
        else:
            owner[key] = copy.deepcopy(VALUES[int(random.integers(len(VALUES)))])
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in a value with each of its keys."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])
