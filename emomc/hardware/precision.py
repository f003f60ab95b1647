"""Bits of feature maps in an accelerator."""

from __future__ import annotations

import dataclasses

from emomc.common.fields import check_count


@dataclasses.dataclass(frozen=True)
class Precision:
    """Bits of the feature maps in the accelerator's memories."""

    I: int  # noqa: E741  (the operand's name in hardware descriptions)
    """Bits of one activation."""
    O: int  # noqa: E741
    """Bits of one output or partial sum."""

    def __post_init__(self) -> None:
        check_count(self, "I")
        check_count(self, "O")
