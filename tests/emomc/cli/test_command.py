"""What every command does at its end."""

from __future__ import annotations

import pytest
import torch
from torch.distributed import HashStore

from emomc.cli.command import make_parser, run_command
from emomc.common.errors import UserError


@pytest.mark.parametrize(("ending", "status"), [(None, 0), (UserError("no"), 2), (KeyboardInterrupt(), 130)])
def test_it_leaves_the_group_of_processes_however_it_ends(capsys, ending, status):
    def join_and_end(_):
        torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        torch.distributed.barrier()
        if ending is not None:
            raise ending

    assert run_command(make_parser("emomc-test", "Joins others."), "search", [], join_and_end) == status
    assert not torch.distributed.is_initialized()
