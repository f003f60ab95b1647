"""Ctrl-C in a real process at any stage: status 130, one line, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from emomc.fronts.front_file import read_front
from emomc.library.library import Library
from tests import users_tasks

# What is started in the background of a shell ignores Ctrl-C, unless it says otherwise.
CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from emomc.cli.scripts import {command} as main
sys.exit(main())
"""
SECONDS = 60


def start(command: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CODE.format(command=command), *map(str, arguments), "--accelerator", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Wait until a process has reached a given point."""
    end = time.monotonic() + SECONDS
    while not reached():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def interrupt_once(process: subprocess.Popen[str], reached: Callable[[], bool], presses: int = 1) -> str:
    """Send Ctrl-C when a process has reached a given point; return its output."""
    wait_until(process, reached)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 130, said
    return said


pytestmark = pytest.mark.slow


def finish(command: str, *arguments: object) -> int:
    """Run a command to its end; return its status."""
    process = start(command, *arguments)
    process.communicate(timeout=SECONDS)
    return process.returncode


TRAINING = ("--pre_train_epochs", 6, "--pre_prune_epochs", 4, "--pre_prune_step", 30)


@pytest.mark.parametrize("stage", ["the first epoch", "an epoch of the dense network", "an epoch of a level"])
def test_pretrain(tmp_path, stage):
    run = tmp_path / "run"
    reached = {
        "the first epoch": lambda: any((run / "logs" / "dense").glob("*tfevents*")),
        "an epoch of the dense network": (run / "checkpoints" / "dense" / "last.ckpt").exists,
        "an epoch of a level": (run / "checkpoints" / "level_080" / "last.ckpt").exists,
    }[stage]
    said = interrupt_once(start("pretrain", *TRAINING, "--output", run), reached)
    assert said == "emomc-pretrain: interrupted; the same command goes on from here\n"
    assert finish("pretrain", *TRAINING, "--output", run) == 0
    assert Library.open(run / "library").levels == (100, 80, 50, 20)


def test_pretrain_of_a_users_module_that_is_killed(tmp_path):
    """The same bytes as without."""
    file = users_tasks.__file__
    module = ("--module", f"{file}:Scene", "--dataset", f"{file}:Scenes", "--monitor", "val/mse", "--mode", "min")
    words = (*module, "--devices", 1, *TRAINING, "--output")
    run, whole = tmp_path / "run", tmp_path / "whole"
    for stage in ("dense", "level_050"):
        process = start("pretrain", *words, run)
        wait_until(process, (run / "checkpoints" / stage / "last.ckpt").exists)
        process.kill()
        process.communicate()
    assert finish("pretrain", *words, run) == finish("pretrain", *words, whole) == 0
    for level in ("level_100", "level_080", "level_050", "level_020"):
        files = [folder / "library" / f"{level}.safetensors" for folder in (run, whole)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_pretrain_that_is_ended_by_a_scheduler(tmp_path):
    run = tmp_path / "run"
    process = start("pretrain", *TRAINING, "--output", run)
    wait_until(process, (run / "checkpoints" / "dense" / "last.ckpt").exists)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), said
    assert "Traceback" not in said


@pytest.mark.parametrize("presses", [1, 2])
def test_search(library, presses):
    folder = library.path.parent / "search" / "s"
    arguments = ("--library", library.path, "--name", "s", "--population_size", 6, "--number_generations", 12)
    log = folder / "evaluations.jsonl"
    process = start("search", *arguments)
    said = interrupt_once(process, lambda: log.exists() and log.read_bytes().count(b"\n") > 9, presses)
    assert said == "emomc-search: interrupted; the same command goes on from here\n"
    if presses == 1:
        front = read_front(folder)
        assert front["finished"] is False
        # The test images would take their time; the next run takes it.
        assert front["baseline"]["test_accuracy"] is None
        assert all(point["test_accuracy"] is None for point in front["points"])
    measured = log.read_bytes()
    # Settings of another search: the state stands as it was.
    assert finish("search", *arguments[:-1], 2) == 2
    assert finish("search", *arguments) == 0
    assert log.read_bytes().startswith(measured)
    front = read_front(folder)
    assert front["finished"] is True
    assert all(point["test_accuracy"] > 0 for point in front["points"])


@pytest.mark.parametrize("command", ["pretrain", "search", "export"])
@pytest.mark.parametrize("seconds", [0.15, 0.4, 1, 2.5])
def test_imports(tmp_path, library, command, seconds):
    arguments = {
        "pretrain": ("--output", tmp_path / "run", "--pre_train_epochs", 50),
        "search": ("--library", library.path, "--name", "s"),
        "export": ("--help",) if seconds < 1 else ("--search", library.path),
    }[command]
    process = start(command, *arguments)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=SECONDS)[1]
    if process.returncode == 130:
        assert said == f"emomc-{command}: interrupted; the same command goes on from here\n"
    else:
        assert command == "export", said


def test_search_while_it_prepares(library):
    calibration = library.path.parent / "calibration"
    shutil.rmtree(calibration)
    process = start("search", "--library", library.path, "--name", "s")
    said = interrupt_once(process, lambda: any(calibration.glob("*/*")))
    assert said == "emomc-search: interrupted; the same command goes on from here\n"
