"""Planned memory: what a call reads is what was written there."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.export.c.memory import plan_memory
from emomc.export.c.program import Buffer, Call, Program, Values


@st.composite
def programs(draw):
    """Calls that read some of what there is, some of them replacing what they read, some writing parts, some with
    memory of their own."""
    counts, types = st.integers(1, 6), st.sampled_from(["f32", "s32", "u8", "s8"])
    image = Values(Buffer(draw(counts), draw(types)), (1,))
    image = Values(image.buffer, (image.buffer.count,))
    made, calls = [image], []
    for _ in range(draw(st.integers(1, 12))):
        read = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
        kind = draw(st.sampled_from(["each", "other", "parts"]))
        count = read[0].count if kind == "each" else draw(counts)
        buffer = Buffer(count, draw(types))
        out = Values(buffer, (count,))
        if kind == "parts" and count > 1:
            for begin, end in ((0, 1), (1, count)):
                part = Values(buffer, (end - begin,), begin)
                calls.append(Call("part", (*read, part), part))
        else:
            scratch = draw(st.none() | st.builds(Buffer, counts, types))
            scratch = scratch and Values(scratch, (scratch.count,))
            calls.append(Call(kind, (*read, scratch, out), out, (read[0],) if kind == "each" else (), scratch))
        made.append(out)
        if draw(st.booleans()) and out.count > 1:
            made.append(Values(buffer, (out.count - 1,), 1))
    return Program(tuple(calls), image, draw(st.sampled_from(made)))


def owners_of(values, plan):
    size = Buffer(1, values.buffer.type).bytes
    begin = plan.offsets[values.buffer] + size * values.offset
    return slice(begin, begin + size * values.count)


@given(programs())
@settings(max_examples=300, deadline=None)
def test_what_is_read_is_what_was_written(program):
    plan = plan_memory(program)
    memory = np.full(plan.bytes, -1)
    number = {buffer: index for index, buffer in enumerate(plan.offsets)}

    def check(values):
        assert (memory[owners_of(values, plan)] == number[values.buffer]).all()

    memory[owners_of(program.image, plan)] = number[program.image.buffer]
    for call in program.calls:
        if call.scratch:
            memory[owners_of(call.scratch, plan)] = number[call.scratch.buffer]
        for values in call.reads:
            check(values)
        if not call.in_place:
            # A call that does not go number by number may not write over what it reads.
            taken = {place for values in call.reads for place in range(plan.bytes)[owners_of(values, plan)]}
            assert not taken & set(range(plan.bytes)[owners_of(call.output, plan)])
        memory[owners_of(call.output, plan)] = number[call.output.buffer]
        if call.scratch:
            check(call.scratch)
    check(program.scores)


@given(programs())
@settings(max_examples=100, deadline=None)
def test_it_takes_no_more_than_all_buffers(program):
    plan = plan_memory(program)
    assert plan.bytes <= sum(buffer.bytes + 3 for buffer in plan.offsets)
    assert plan.bytes >= max(buffer.bytes for buffer in plan.offsets)
    assert all(offset % 4 == 0 for offset in plan.offsets.values())


def test_a_chain_needs_its_two_largest_neighbours():
    sizes = [4, 9, 3, 7, 1]
    made = [Values(Buffer(size), (size,)) for size in sizes]
    calls = [Call("next", (given_, out), out) for given_, out in itertools.pairwise(made)]
    assert plan_memory(Program(tuple(calls), made[0], made[-1])).bytes == 4 * 13


def test_bytes_take_bytes_and_what_a_call_needs_alone_is_shared():
    sizes = [8, 12, 4]
    made = [Values(Buffer(size, "u8"), (size,)) for size in sizes]
    calls = []
    for given_, out in itertools.pairwise(made):
        scratch = Values(Buffer(2, "s32"), (2,))
        calls.append(Call("next", (given_, scratch, out), out, scratch=scratch))
    assert plan_memory(Program(tuple(calls), made[0], made[-1])).bytes == 8 + 12 + 8


def test_a_function_of_each_number_needs_no_further_memory():
    image, out = (Values(Buffer(5), (5,)) for _ in range(2))
    call = Call("relu", (image, 5, out), out, (image,))
    assert plan_memory(Program((call,), image, out)).bytes == 4 * 5
