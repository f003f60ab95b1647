"""Leaving the process group that Lightning joins."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.distributed import HashStore

from emomc.common.errors import UserError
from emomc.runtime.process_group import process_group_left


@pytest.mark.parametrize("ending", [None, UserError("no"), KeyboardInterrupt()])
def test_it_is_left_however_the_block_ends(ending):
    with contextlib.suppress(UserError, KeyboardInterrupt), process_group_left():
        torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        torch.distributed.barrier()
        if ending is not None:
            raise ending
    assert not torch.distributed.is_initialized()
