"""A command on two processes, either started by itself or by torchrun, and the processes of it that live."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
LAUNCHERS: dict[str, tuple[str, ...]] = {"alone": (), "torchrun": TORCHRUN}


class TwoProcesses:
    """A running command ``emomc-COMMAND`` on two CPU processes; needs ``/proc``."""

    def __init__(self, command: str, arguments: Sequence[object], launcher: Sequence[str] = ()) -> None:
        """Start the command; ``launcher``: a value of ``LAUNCHERS``."""
        words = [*launcher, "-m", f"emomc.cli.{command}", "--accelerator", "cpu", *map(str, arguments)]
        # Every process inherits it, whatever launcher stands between.
        self._mark = ("EMOMC_RUN_UNDER_WATCH", str(uuid.uuid4()))
        self.process = subprocess.Popen(
            [sys.executable, *words, *(() if launcher else ("--devices", "2"))],
            env={**os.environ, "OMP_NUM_THREADS": "1", **dict([self._mark])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def alive(self) -> dict[int, set[str]]:
        """Return the processes that have not ended, with the variables of their environment."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            # That of a process that has ended is empty.
            with contextlib.suppress(OSError):
                variables = {*(folder / "environ").read_text(errors="replace").split("\0")}
                if "=".join(self._mark) in variables:
                    found[int(folder.name)] = variables
        return found

    def rank(self, number: int) -> int:
        """Return the process of a rank; before it has begun, the process that was started."""
        ranks = [pid for pid, variables in self.alive().items() if f"LOCAL_RANK={number}" in variables]
        return ranks[0] if ranks else self.process.pid

    def end(self, seconds: float) -> str:
        """Wait until all processes have ended; return what they wrote to standard error.

        Raises:
            TimeoutError: one lives on for longer than ``seconds``.
        """
        deadline = time.monotonic() + seconds
        try:
            said = self.process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"after {seconds} s there are still {sorted(self.alive())}") from None
        while self.alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s there are still {sorted(self.alive())}")
            time.sleep(0.05)
        return said
