"""Write a packed network as C."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from emomc.common.errors import UserError
from emomc.common.files import write_text
from emomc.export.c.arithmetic import Arithmetic, choose_arithmetic
from emomc.export.c.header import HEADER_END
from emomc.export.c.integers import integer_program
from emomc.export.c.lowering import lower_network
from emomc.export.c.program import Program
from emomc.export.c.sources import source_text
from emomc.packed_file.network import PackedNetwork


def write_c(
    path: Path,
    packed: PackedNetwork,
    network: nn.Module | None = None,
    *,
    name: str,
    coding: str,
    arithmetic: Arithmetic | None = None,
) -> int:
    """Write the source of a network, completely or not at all.

    Args:
        path: the file to make or replace.
        packed: the network.
        network: as for ``load_compressed``: a user's network before folding.
        name: what the names of its functions begin with.
        coding: one of ``CODING_CHOICES``: how the weights are stored; best: the shortest for each layer.
        arithmetic: of the layers; None: int8 if the network can have it, see ``choose_arithmetic``.

    Returns:
        Bytes written.

    Raises:
        UserError: the network has operations that cannot be written in C, or cannot have the arithmetic.
    """
    text = source_text(c_program(packed, network, arithmetic), packed.description, name, coding)
    write_text(path, text)
    return len(text.encode())


def c_program(packed: PackedNetwork, network: nn.Module | None = None, arithmetic: Arithmetic | None = None) -> Program:
    """Return a packed network as a program in an arithmetic; see ``write_c``."""
    choose_arithmetic(packed.layers, arithmetic)
    return in_arithmetic(lower_network(packed, network), packed, arithmetic)


def in_arithmetic(program: Program, packed: PackedNetwork, arithmetic: Arithmetic | None = None) -> Program:
    """Return a program of floats, of that packed network, in an arithmetic; see ``write_c``."""
    return integer_program(program) if choose_arithmetic(packed.layers, arithmetic) == "int8" else program


def header_of(source: Path) -> str:
    """Return the header of a source that ``write_c`` wrote: its beginning.

    Raises:
        UserError: the file is no such source.
    """
    header, end, _ = source.read_text(encoding="utf-8").partition(HEADER_END)
    if not end:
        raise UserError(f"expected a source that emomc-export wrote at {source}, found another file")
    return header


def facts_of(source: Path) -> str:
    """Return what the header of a source says in numbers: its arithmetic, RAM and flash.

    Raises:
        UserError: as ``header_of``.
    """
    header = header_of(source)
    arithmetic, *_ = re.findall(r"Arithmetic: (\w+)", header)
    ram, flash = (int(number) for number in re.findall(r"_(?:RAM|FLASH)_BYTES = (\d+)", header))
    return f"arithmetic {arithmetic}, {ram:,} bytes of RAM, {flash:,} bytes of flash besides the code"
