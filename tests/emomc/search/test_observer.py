"""Observers are torn down, whatever ended the search."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emomc.callbacks.search.rich_front_table import RichFrontTable
from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.common.errors import UserError
from emomc.search.observer import SearchCallback

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Recorder(SearchCallback):
    def __init__(self, fail_in=()):
        self.heard = []
        self.fail_in = fail_in

    def _hear(self, event):
        self.heard.append(event)
        if event in self.fail_in:
            raise RuntimeError(f"{event} fails")

    def on_search_start(self, search):
        self._hear("start")

    def on_generation_end(self, search):
        self._hear("generation")

    def on_search_end(self, search):
        self._hear("end")

    def on_search_teardown(self, search):
        self._hear("teardown")


def test_of_a_search_that_ends_well(library, search):
    recorder = Recorder()
    search(library, [recorder], number_generations=2)
    assert recorder.heard == ["start", "generation", "generation", "end", "teardown"]


@pytest.mark.parametrize("event", ["start", "generation", "end", "teardown"])
def test_of_one_that_an_observer_ends(library, search, event):
    recorders = [Recorder(), Recorder(fail_in=[event]), Recorder()]
    with pytest.raises(RuntimeError, match=f"{event} fails"):
        search(library, recorders, number_generations=2)
    assert [recorder.heard[-1] for recorder in recorders] == ["teardown"] * 3


@pytest.mark.parametrize("error", [UserError("expected a network, found none"), KeyboardInterrupt(), SystemExit(143)])
def test_the_terminal_and_the_log_are_left_whole(library, search, monkeypatch, error):
    evaluate, runs = CandidateEvaluator.evaluate, []

    def fail_later(evaluator, genotype, **options):
        runs.append(genotype)
        if len(runs) > 20:
            raise error
        return evaluate(evaluator, genotype, **options)

    monkeypatch.setattr(CandidateEvaluator, "evaluate", fail_later)
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True)
    with pytest.raises(type(error)):
        search(library, [RichFrontTable(console), TensorBoardFrontLogger()], name="s", number_generations=20)
    written = console.file.getvalue()
    assert written.count(HIDE) == written.count(SHOW) >= 1
    assert written.rfind(SHOW) > written.rfind(HIDE)
    events = EventAccumulator(str(library.path.parent / "search" / "s" / "tensorboard")).Reload()
    assert events.Scalars("front/hypervolume")


CODE = """
import sys
from lightning_fabric import Fabric
from rich.console import Console
from emomc import RunOptions, SearchConfig, run_search
from emomc.callbacks.search.rich_front_table import RichFrontTable

config = SearchConfig(population_size=4, number_generations=10_000)
fabric = Fabric(accelerator="cpu", devices=1)
run_search(sys.argv[1], config, [RichFrontTable(Console(force_terminal=True))], RunOptions(fabric=fabric))
"""


@pytest.mark.slow
def test_a_polite_kill_gives_the_cursor_back(library):
    process = subprocess.Popen([sys.executable, "-c", CODE, library.path], stdout=subprocess.PIPE, text=True)
    log = library.path.parent / "search" / "default" / "evaluations.jsonl"
    for _ in range(600):
        if log.exists() and len(log.read_bytes().splitlines()) > 10:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    written, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert written.count(HIDE) == written.count(SHOW) >= 1
