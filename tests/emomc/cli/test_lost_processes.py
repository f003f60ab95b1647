"""A process of several is killed or hangs: all end soon, say which in one line, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.common.two_processes import LAUNCHERS, TwoProcesses
from emomc.fronts.front_file import read_front
from emomc.library.library import Library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]

TRAINING = ("--pre_train_epochs", "2", "--pre_prune_epochs", "6", "--pre_prune_step", "30")
SEARCHING = ("--population_size", "8", "--number_generations", "30", "--quiet", "--name", "s")
END_S = 45
"""All others must have ended so many seconds after one is lost."""
WORK_S = 240
"""More than any of these commands takes on a loaded machine."""


class Run(TwoProcesses):
    """A command on two processes that is awaited."""

    def wait_until(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + WORK_S
        while not reached():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)

    def finish(self) -> None:
        """Wait until the command has done its work."""
        said = self.end(WORK_S)
        assert self.process.returncode == 0, said


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


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
@pytest.mark.parametrize("command", ["search", "pretrain"])
@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed(begun, tmp_path, command, launcher, rank):
    run = begun(command, launcher)
    os.kill(run.rank(rank), signal.SIGKILL)
    said = run.end(END_S)
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
    run = begun(command, (), "--worker_timeout", "0.2")
    hung = run.rank(rank)
    os.kill(hung, signal.SIGSTOP)
    said = run.end(END_S)
    assert f"found rank {rank} (process {hung} on " in said
    assert "gave no sign of life for 0.2 minutes" in said
    assert len(said.splitlines()) == 1
    assert run.process.returncode == (1 if rank else -signal.SIGKILL)
