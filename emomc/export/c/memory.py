"""Planning the memory of a program: buffers that are not needed at the same time share bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from emomc.export.c.program import Buffer, Program


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Where each buffer of a program lies in one array."""

    offsets: Mapping[Buffer, int]
    """Buffer -> its first byte in the array, a multiple of 4."""
    bytes: int
    """Of the array, a multiple of 4."""


@dataclasses.dataclass
class _Block:
    """Buffers that take the same place: each but the first replaces the one before it, number by number."""

    buffers: list[Buffer]
    first: int
    """Number of the call that writes it first; the image is there before all calls."""
    last: int
    """Number of the last call that uses it."""

    @property
    def bytes(self) -> int:
        """What it takes, a multiple of 4."""
        return -(-self.buffers[0].bytes // 4) * 4


def plan_memory(program: Program) -> MemoryPlan:
    """Place the buffers of a program, the largest first, each as low as those that live at the same time allow."""
    blocks = _blocks(program)
    placed: list[tuple[_Block, int]] = []
    for block in sorted(blocks, key=lambda block: (-block.bytes, block.first)):
        placed.append((block, _lowest(block, placed)))
    offsets = {buffer: offset for block, offset in placed for buffer in block.buffers}
    return MemoryPlan(offsets, max(block.bytes + offset for block, offset in placed))


def _blocks(program: Program) -> list[_Block]:
    end = len(program.calls)
    last = {program.image.buffer: 0}
    for number, call in enumerate(program.calls):
        for values in (*call.reads, call.output):
            last[values.buffer] = number
    last[program.scores.buffer] = end
    scratch = [
        _Block([call.scratch.buffer], number, number) for number, call in enumerate(program.calls) if call.scratch
    ]
    image = _Block([program.image.buffer], -1, last[program.image.buffer])
    block_of = {program.image.buffer: image}
    for number, call in enumerate(program.calls):
        buffer = call.output.buffer
        if buffer in block_of:
            continue
        # What is replaced may not be needed after this call, nor be read by it in another order.
        replaced = next(
            (
                values
                for values in call.in_place
                if values.whole
                and call.output.whole
                and values.count == buffer.count
                and values.buffer.bytes == buffer.bytes
                and block_of[values.buffer].last == number
                and all(other in call.in_place for other in call.reads if other.buffer is values.buffer)
            ),
            None,
        )
        if replaced is None:
            block_of[buffer] = _Block([buffer], number, last[buffer])
        else:
            block = block_of[buffer] = block_of[replaced.buffer]
            block.buffers.append(buffer)
            block.last = last[buffer]
    return [*{id(block): block for block in block_of.values()}.values(), *scratch]


def _lowest(block: _Block, placed: list[tuple[_Block, int]]) -> int:
    """Return the lowest offset at which a block meets none of those that live at the same time."""
    size = block.bytes
    taken = sorted(
        (offset, offset + other.bytes)
        for other, offset in placed
        if other.first <= block.last and block.first <= other.last
    )
    lowest = 0
    for begin, end in taken:
        if begin - lowest >= size:
            break
        lowest = max(lowest, end)
    return lowest
