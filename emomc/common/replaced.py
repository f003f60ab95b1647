"""Giving an object another attribute for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object another attribute, such as a method, while the block runs.

    Args:
        owner: the object; its class and other objects of it are not changed.
        name: of the attribute.
        value: that it has in the block.
    """
    own = vars(owner)
    has_own, before = name in own, own.get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if has_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
