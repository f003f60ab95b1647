"""The cache: what it keeps, what it drops, and that it returns the right values."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.cache import BoundedCache, MemoryBound


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 40))
def test_answers_are_those_of_making_anew_and_memory_is_bounded(keys, bound):
    held = {}
    cache = BoundedCache(bound, size_of=lambda value: value[1])
    made = []
    for key in keys:

        def make(key=key):
            made.append(key)
            return (key, key + 1)

        assert cache.get(key, make) == (key, key + 1)
        # A plain re-implementation: keys in the order of last use; the oldest are dropped.
        hit = key in held
        held.pop(key, None)
        held[key] = key + 1
        while sum(held.values()) > bound and len(held) > 1:
            held.pop(next(iter(held)))
        assert len(cache) == len(held)
        assert made.count(key) >= 1
        if hit:
            assert cache.get(key, lambda: (_ for _ in ()).throw(AssertionError("made again"))) == (key, key + 1)


def test_makes_once_what_it_keeps():
    made = []
    cache = BoundedCache(100, size_of=lambda value: 10)
    for key in [1, 2, 1, 2, 1]:
        cache.get(key, lambda key=key: made.append(key))
    assert made == [1, 2]


def test_drops_what_was_used_longest_ago():
    made = []
    cache = BoundedCache(2, size_of=lambda value: 1)
    for key in ["a", "b", "a", "c", "a", "b"]:
        cache.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "b"]


def test_keeps_the_newest_even_if_it_is_too_large():
    cache = BoundedCache(1, size_of=lambda value: 50)
    assert cache.get("a", lambda: "first") == "first"
    assert cache.get("a", lambda: "second") == "first"
    assert len(cache) == 1


def test_caches_share_one_bound():
    """The oldest value of either cache makes room; the same key in both is two values."""
    bound = MemoryBound(10)
    small, large = BoundedCache(bound, size_of=lambda value: 2), BoundedCache(bound, size_of=lambda value: 5)
    small.get("a", lambda: 1)
    large.get("a", lambda: 2)
    small.get("b", lambda: 3)
    assert [("a" in small), ("b" in small), ("a" in large)] == [True, True, True]
    small.get("a", lambda: None)  # used again, so the large one is the oldest
    small.get("c", lambda: 4)
    assert [*map(len, (small, large))] == [3, 0]
    assert large.get("a", lambda: 5) == 5
    assert [("b" in small), ("a" in small), ("c" in small)] == [False, True, True]


def test_what_is_reserved_is_not_for_caches_but_a_quarter_always_is():
    bound = MemoryBound(8)
    cache = BoundedCache(bound, size_of=lambda value: 1)
    bound.reserve(4)
    for key in range(8):
        cache.get(key, lambda: 0)
    assert len(cache) == 4
    bound.reserve(100)
    cache.get(8, lambda: 0)
    assert len(cache) == 2
