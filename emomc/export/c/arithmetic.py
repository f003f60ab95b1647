"""The arithmetic of a program: which there are, and which a packed network can have; known without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.widths import UNCOMPRESSED_BITS

Arithmetic = Literal["float", "int8"]
MOST_CODE_BITS = 8
"""Of the inputs of a layer that computes with integers."""


class Layer(Protocol):
    """What of a layer decides its arithmetic."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def bits(self) -> int:
        """Of its weights."""

    @property
    def inputs(self) -> ActivationGrid | None:
        """The grid of its inputs."""


def choose_arithmetic(layers: Sequence[Layer], wanted: Arithmetic | None = None) -> Arithmetic:
    """Return the arithmetic of a network's program.

    Args:
        layers: all that have weights.
        wanted: what was asked for; None: int8 if the network can have it.

    Raises:
        UserError: int8 was asked for, and the inputs of a layer have more than 8 bits, or no layer has integer weights.
    """
    wide = next((one for one in layers if one.inputs is None or one.inputs.bits > MOST_CODE_BITS), None)
    found = None
    if wide is not None:
        found = f"{wide.name} with inputs of {'float32' if wide.inputs is None else f'{wide.inputs.bits} bits'}"
    elif all(one.bits == UNCOMPRESSED_BITS for one in layers):
        found = "float32 weights in every layer"
    if wanted == "int8" and found is not None:
        raise UserError(
            f"expected layers with inputs of at most {MOST_CODE_BITS} bits and integer weights for the arithmetic int8 "
            f"(emomc-search --activation_bits {MOST_CODE_BITS}), found {found}"
        )
    return wanted or ("float" if found is not None else "int8")
