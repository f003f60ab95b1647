"""Seeds that depend only on what they are used for."""

from __future__ import annotations

import hashlib


def derive_seed(*key: int | str) -> int:
    """Return a seed in 0..2^63-1 that is a pure function of the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
