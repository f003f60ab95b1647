"""Write a packed network as C."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from emomc.common.errors import UserError
from emomc.common.files import write_text
from emomc.export.c.lowering import lower_network
from emomc.export.c.sources import HEADER_END, source_text
from emomc.packed_file.network import PackedNetwork


def write_c(path: Path, packed: PackedNetwork, network: nn.Module | None = None, *, name: str, coding: str) -> int:
    """Write the source of a network, completely or not at all.

    Args:
        path: the file to make or replace.
        packed: the network.
        network: as for ``load_compressed``: a user's network before folding.
        name: what the names of its functions begin with.
        coding: one of ``CODING_CHOICES``: how the weights are stored; best: the shortest for each layer.

    Returns:
        Bytes written.

    Raises:
        UserError: the network has operations that cannot be written in C.
    """
    text = source_text(lower_network(packed, network), packed.description, name, coding)
    write_text(path, text)
    return len(text.encode())


def header_of(source: Path) -> str:
    """Return the header of a source that ``write_c`` wrote: its beginning.

    Raises:
        UserError: the file is no such source.
    """
    header, end, _ = source.read_text(encoding="utf-8").partition(HEADER_END)
    if not end:
        raise UserError(f"expected a source that emomc-export wrote at {source}, found another file")
    return header
