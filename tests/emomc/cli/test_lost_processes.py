"""A process of several is killed or hangs: all end soon, say which in one line, and the same command goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from emomc.fronts.front_file import read_front
from emomc.library.library import Library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]

TRAINING = ("--pre_train_epochs", "2", "--pre_prune_epochs", "6", "--pre_prune_step", "30")
SEARCHING = ("--population_size", "8", "--number_generations", "30", "--quiet", "--name", "s")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
END_S = 30
"""All others must have ended so many seconds after one is lost."""
WORK_S = 240
"""More than any of these commands takes on a loaded machine."""


class Run:
    """A command on two processes, in a session of its own."""

    def __init__(self, command: str, arguments: tuple[object, ...], launcher: tuple[str, ...]) -> None:
        words = [*launcher, "-m", f"emomc.cli.{command}", "--accelerator", "cpu", *map(str, arguments)]
        # Every process of the run inherits it, whatever launcher stands between.
        self.mark = f"EMOMC_TEST_RUN={uuid.uuid4()}"
        self.process = subprocess.Popen(
            [sys.executable, *words, *(() if launcher else ("--devices", "2"))],
            env={**os.environ, "OMP_NUM_THREADS": "1", **dict([self.mark.split("=")])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def alive(self) -> dict[int, set[str]]:
        """Return the processes of the run that have not ended, with the variables of their environment."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            # That of a process that has ended is empty.
            with contextlib.suppress(OSError):
                variables = {*(folder / "environ").read_text(errors="replace").split("\0")}
                if self.mark in variables:
                    found[int(folder.name)] = variables
        return found

    def rank(self, number: int) -> int:
        """Return the process of a rank."""
        ranks = [pid for pid, variables in self.alive().items() if f"LOCAL_RANK={number}" in variables]
        return ranks[0] if ranks else self.process.pid

    def wait_until(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + WORK_S
        while not reached():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)

    def finish(self) -> None:
        """Wait until the command has done its work."""
        said = self.process.communicate(timeout=WORK_S)[1]
        assert self.process.returncode == 0, said

    def end(self) -> str:
        """Wait until all have ended; return what they said."""
        said = self.process.communicate(timeout=END_S)[1]
        end = time.monotonic() + END_S
        while self.alive():
            assert time.monotonic() < end, self.alive()
            time.sleep(0.1)
        return said


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    run = Run("pretrain", ("--output", folder / "run", *TRAINING), ())
    run.finish()
    return folder / "run" / "library"


@pytest.fixture
def begun(tmp_path, library):
    """Start a command on two processes, and wait until it is at work."""
    runs = []

    def begin(command: str, launcher: tuple[str, ...], *more: object) -> Run:
        place = tmp_path / "run"
        if command == "search":
            if not place.exists():
                shutil.copytree(library, place / "library")
            runs.append(Run(command, ("--library", place / "library", *SEARCHING, *more), launcher))
            log = place / "search" / "s" / "evaluations.jsonl"
            runs[-1].wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") > 5)
        else:
            runs.append(Run(command, ("--output", place, *TRAINING, *more), launcher))
            runs[-1].wait_until(lambda: (place / "library" / "level_080.safetensors").exists())
        return runs[-1]

    yield begin
    for run in runs:
        for pid in run.alive():
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        run.process.stderr.close()


def result(folder: Path, command: str) -> object:
    """Return what a command has made: a front, or the weights of a library."""
    if command == "search":
        return read_front(folder / "search" / "s")
    library = Library.open(folder / "library")
    return [(record.percent, record.sha256, record.validation_accuracy) for record in library.manifest.levels]


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["alone", "torchrun"])
@pytest.mark.parametrize("command", ["search", "pretrain"])
@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed(begun, tmp_path, command, launcher, rank):
    run = begun(command, launcher)
    os.kill(run.rank(rank), signal.SIGKILL)
    said = run.end()
    # torchrun itself ends the others when it sees one end; who is first differs.
    if not launcher:
        lines = said.splitlines()
        assert len(lines) == 1, said
        assert f"found rank {rank} (process " in lines[0]
        assert lines[0].endswith("that ended: the same command goes on from here")
        assert run.process.returncode == (1 if rank else -signal.SIGKILL)
    begun(command, launcher).finish()
    killed = result(tmp_path / "run", command)
    shutil.rmtree(tmp_path / "run")
    begun(command, launcher).finish()
    assert result(tmp_path / "run", command) == killed


@pytest.mark.parametrize("command", ["search", "pretrain"])
@pytest.mark.parametrize("rank", [0, 1])
def test_one_hangs(begun, command, rank):
    run = begun(command, (), "--worker_timeout", "0.05")
    hung = run.rank(rank)
    os.kill(hung, signal.SIGSTOP)
    said = run.end()
    assert f"found rank {rank} (process {hung} on " in said
    assert "gave no sign of life for 0.05 minutes" in said
    assert len(said.splitlines()) == 1
    assert run.process.returncode == (1 if rank else -signal.SIGKILL)
