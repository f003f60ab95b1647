"""The levels of a library, and what they are called: a pattern of zeros and the share of weights that remains."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from emomc.common.errors import UserError, shown

LevelName = int | str
"""What a level is called in files and logs: its percentage if its zeros follow no pattern, else a text such as ``2:4``,
``block:4x1:50`` or ``channel:50``."""

UNSTRUCTURED, N_M, BLOCK, CHANNEL = "unstructured", "n:m", "block", "channel"
"""The kinds of patterns."""

_N_M = re.compile(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})")
_BLOCK = re.compile(r"block:([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")


def parse_n_m(pattern: str) -> tuple[int, int] | None:
    """Return N and M of a pattern N:M with N < M; None if it is another."""
    found = _N_M.fullmatch(pattern)
    few, many = map(int, found.groups()) if found else (0, 0)
    return (few, many) if few < many else None


def parse_block(pattern: str) -> tuple[int, int] | None:
    """Return R (output channels) and C (inputs) of a pattern ``block:RxC``; None if it is another."""
    found = _BLOCK.fullmatch(pattern)
    shape = (int(found[1]), int(found[2])) if found else (1, 1)
    return None if shape == (1, 1) else shape


def check_pattern(pattern: str) -> str:
    """Return the pattern.

    Raises:
        UserError: it is none.
    """
    if pattern in (UNSTRUCTURED, CHANNEL) or parse_n_m(pattern) or parse_block(pattern):
        return pattern
    raise UserError(
        f"expected a pattern of {UNSTRUCTURED}, {CHANNEL}, N:M with N < M such as 2:4, or block:RxC such as block:4x1, "
        f"found {shown(pattern)}"
    )


def n_m_percent(pattern: str) -> int | None:
    """Return the weights that remain under a pattern N:M, percent, rounded, at least 1; None if it is another."""
    found = parse_n_m(pattern)
    return None if found is None else max(1, round(100 * found[0] / found[1]))


def kind_of(pattern: str) -> str:
    """Return the kind of a pattern: unstructured, n:m, block or channel."""
    return N_M if parse_n_m(pattern) else BLOCK if parse_block(pattern) else pattern


@dataclasses.dataclass(frozen=True)
class Level:
    """A pattern of zeros and how many weights it leaves.

    Raises:
        UserError: the pattern is none, the percentage is out of 1..100, or it is not that of the pattern N:M.
    """

    percent: int
    """Weights remaining, percent; see ``n_m_percent``."""
    pattern: str = UNSTRUCTURED
    """``unstructured``, ``channel``, N:M such as ``2:4``, or ``block:RxC`` such as ``block:4x1``."""

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if not 1 <= self.percent <= 100:
            raise UserError(f"expected a level of 1..100 %, found {shown(self.percent)}")
        fixed = n_m_percent(self.pattern)
        if fixed not in (None, self.percent):
            raise UserError(f"expected {fixed} % of the weights at a level {self.pattern}, found {self.percent}")

    @classmethod
    def of(cls, name: LevelName) -> Level:
        """Return the level of a name.

        Raises:
            UserError: it is the name of none.
        """
        if isinstance(name, int):
            return cls(name)
        fixed = n_m_percent(name)
        if fixed is not None:
            return cls(fixed, name)
        pattern, _, percent = name.rpartition(":")
        plain = percent.isascii() and percent.isdigit() and len(percent) <= 3
        if not plain or pattern == UNSTRUCTURED or parse_n_m(pattern):
            raise UserError(f"expected the name of a level such as 50, '2:4' or 'channel:50', found {shown(name)}")
        return cls(int(percent), pattern)

    @property
    def name(self) -> LevelName:
        """What the level is called in files and logs."""
        if self.pattern == UNSTRUCTURED:
            return self.percent
        return self.pattern if parse_n_m(self.pattern) else f"{self.pattern}:{self.percent}"

    @property
    def label(self) -> str:
        """What people read: ``50 %``, ``2:4``, ``block 4x1 50 %`` or ``channel 50 %``."""
        if self.pattern == UNSTRUCTURED:
            return f"{self.percent} %"
        return self.pattern if parse_n_m(self.pattern) else f"{self.pattern.replace(':', ' ')} {self.percent} %"

    @property
    def slug(self) -> str:
        """The name as part of a file name: ``050``, ``2-4``, ``block-4x1-050`` or ``channel-050``."""
        number = f"{self.percent:03d}"
        if self.pattern == UNSTRUCTURED:
            return number
        plain = self.pattern.replace(":", "-")
        return plain if parse_n_m(self.pattern) else f"{plain}-{number}"

    @property
    def chain(self) -> str:
        """Which levels follow from one another: those of one pattern, and all N:M together."""
        return N_M if parse_n_m(self.pattern) else self.pattern

    @property
    def order(self) -> tuple[int, str]:
        """Sorts levels by the weights that remain, then by pattern."""
        return self.percent, self.pattern


def label_of(name: LevelName) -> str:
    """Return what people read for the name of a level."""
    return Level.of(name).label


def patterned(names: Iterable[LevelName]) -> bool:
    """Say whether the zeros of any level follow a pattern."""
    return any(Level.of(name).pattern != UNSTRUCTURED for name in names)
