"""Out-of-memory errors are distinguished from other errors."""

import resource

import pytest
import torch

from emomc.common.errors import UserError
from emomc.runtime.memory import little_memory, memory_for

OUT = [
    MemoryError(),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
]


@pytest.mark.parametrize("error", OUT, ids=["Python", "GPU", "CPU"])
def test_is_one_line_that_names_the_remedy(error):
    line = r"^expected memory for a cake, found too little \(.+\): bake less$"
    with pytest.raises(UserError, match=line), memory_for("a cake", "bake less"):
        raise error


def test_really_too_much_on_a_cpu():
    with pytest.raises(UserError, match="expected memory for a cake"), memory_for("a cake", "bake less"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("x"), KeyError("y")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)), memory_for("a cake", "bake less"):
        raise error


def test_a_block_of_little_memory_gets_no_more():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with little_memory(1 << 20):
        torch.zeros(1 << 18)
        with pytest.raises(RuntimeError, match="allocate memory"):
            torch.empty(1 << 40)
        with pytest.raises(MemoryError):
            bytearray(1 << 34)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
