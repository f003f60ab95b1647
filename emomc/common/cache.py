"""Least-recently-used caches with a memory limit, which several may share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class MemoryBound:
    """A number of bytes for all caches that share it; what was used longest ago is dropped first, wherever it is."""

    def __init__(self, max_bytes: int) -> None:
        """Set the largest sum of the sizes of what the caches keep."""
        self._max_bytes = max_bytes
        self._reserved = 0
        self._bytes = 0
        self._sizes: OrderedDict[tuple[int, Hashable], int] = OrderedDict()
        """(number of the cache, key) -> bytes, in the order of last use."""
        self._values: list[dict[Any, Any]] = []

    def reserve(self, count: int) -> None:
        """Leave bytes to something that is no cache's; a quarter of all remains for the caches."""
        self._reserved += count

    def join(self, values: dict[Any, Any]) -> int:
        """Take part with the values of a cache, from which the oldest are deleted; return its number."""
        self._values.append(values)
        return len(self._values) - 1

    def use(self, cache: int, key: Hashable) -> None:
        """Note that a value was used."""
        self._sizes.move_to_end((cache, key))

    def add(self, cache: int, key: Hashable, size: int) -> None:
        """Note a new value, and make room for it; it is kept even if it alone is too large."""
        self._sizes[cache, key] = size
        self._bytes += size
        limit = max(self._max_bytes - self._reserved, self._max_bytes // 4)
        while self._bytes > limit and len(self._sizes) > 1:
            (oldest, name), freed = self._sizes.popitem(last=False)
            del self._values[oldest][name]
            self._bytes -= freed


class BoundedCache(Generic[Key, Value]):
    """Keeps the last used values, up to a number of bytes; the newest value is kept even if it alone is larger."""

    def __init__(self, bound: MemoryBound | int, size_of: Callable[[Value], int]) -> None:
        """Start empty.

        Args:
            bound: largest sum of the sizes, bytes, or what this cache shares with others.
            size_of: returns the bytes of a value.
        """
        self._bound = bound if isinstance(bound, MemoryBound) else MemoryBound(bound)
        self._size_of = size_of
        self._values: dict[Key, Value] = {}
        self._number = self._bound.join(self._values)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of ``key``; make it if it is not in the cache."""
        if key in self._values:
            self._bound.use(self._number, key)
            return self._values[key]
        value = make()
        self._values[key] = value
        self._bound.add(self._number, key, self._size_of(value))
        return value

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)
