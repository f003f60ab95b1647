"""The course of a front, as numbers and as plain lines."""

from __future__ import annotations

import dataclasses
import re

import pytest

from emomc.callbacks.search.constraint_note import ConstraintNote
from emomc.callbacks.search.front_lines import FrontLines
from emomc.callbacks.search.front_tracker import FrontTracker


def test_history_holds_each_generation_and_grows(library, search):
    tracker = FrontTracker()
    result = search(library, [tracker], number_generations=4)
    assert [entry.generation for entry in tracker.history] == [1, 2, 3, 4]
    volumes = [entry.hypervolume for entry in tracker.history]
    assert volumes == sorted(volumes)
    assert 0 < volumes[0] < volumes[-1] < 1
    last = tracker.history[-1]
    assert last.front_size == len(result.front)
    assert last.best_accuracy == max(point.accuracy for point in result.front)
    assert last.evaluations == len(result.candidates)
    # By hand for two objectives: a staircase below error 1 and cost 1, relative to the uncompressed network.
    points = sorted(
        (point.costs["energy_mj"] / result.uncompressed["energy_mj"], 1 - point.accuracy) for point in result.front
    )
    area, error_above = 0.0, 1.0
    for cost, error in points:
        area += (1 - cost) * (error_above - error)
        error_above = error
    assert volumes[-1] == pytest.approx(area)


def test_time_left_is_that_of_the_generations_left_at_the_latest_pace(finished, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("emomc.callbacks.search.front_tracker.time.monotonic", lambda: now[0])
    finished.config = dataclasses.replace(finished.config, number_generations=40)
    tracker = FrontTracker()
    tracker.on_search_start(finished)
    assert tracker.seconds_left(finished) is None
    # Ten quick generations, as when answered from a log, then ten slow ones: only those count.
    for generation, seconds in enumerate([1] * 10 + [30] * 10, 1):
        now[0] += seconds
        finished.generation = generation
        tracker.on_generation_end(finished)
    assert tracker.seconds_left(finished) == pytest.approx(20 * 30)
    now[0] += 12
    assert tracker.seconds_left(finished) == pytest.approx(20 * 30 - 12)
    now[0] += 10_000
    assert tracker.seconds_left(finished) == 0


def test_seconds_per_candidate_are_those_of_the_measured(finished, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("emomc.callbacks.search.front_tracker.time.monotonic", lambda: now[0])
    tracker = FrontTracker()
    tracker.on_search_start(finished)
    assert tracker.seconds_per_candidate is None
    now[0] = 0.5 * finished.tally.measured
    tracker.on_candidate_end(finished, finished.candidates[0])
    assert tracker.seconds_per_candidate == pytest.approx(0.5)


def test_lines_are_one_a_generation(finished, replay, capsys):
    replay(finished, [FrontLines()])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"generation {number}/4: hypervolume 0\.\d{{5}}( \([+-]0\.\d{{5}}\))?, front \d+, "
            r"best accuracy \d+\.\d\d %, measured \d+, reused \d+, stopped early \d+, \d+ s, \d+ s left",
            line,
        )


class TestConstraintNote:
    def line(self, library, search, capsys, **settings):
        search(library, [ConstraintNote()], number_generations=1, **settings)
        return capsys.readouterr().out

    def test_says_nothing_without_constraints(self, library, search, capsys):
        assert self.line(library, search, capsys) == ""

    def test_says_whether_they_can_be_met(self, copy_of_library, search, capsys):
        text = self.line(copy_of_library("a"), search, capsys, size_constraint="50")
        assert text == "Constraints size_kib <= 50: the cheapest network (fewest bits at level 20 %) meets them.\n"
        text = self.line(copy_of_library("b"), search, capsys, size_constraint="0.01")
        assert "not even the cheapest network" in text
        assert len(text.splitlines()) == 1
