"""The pace of a search."""

from __future__ import annotations

import dataclasses

import pytest

from emomc.callbacks.search.pace import Pace, hypervolume_text


def test_time_left_is_that_of_the_generations_left_at_the_latest_pace(finished, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("emomc.callbacks.search.pace.time.monotonic", lambda: now[0])
    finished.config = dataclasses.replace(finished.config, number_generations=40)
    pace = Pace()
    assert pace.seconds_left(finished) is None
    # Ten quick generations, as when answered from a log, then ten slow ones: only those count.
    for generation, seconds in enumerate([1] * 10 + [30] * 10, 1):
        now[0] += seconds
        finished.history = [finished.statistics] * generation
        pace.end_generation()
    assert pace.seconds_left(finished) == pytest.approx(20 * 30)
    now[0] += 12
    assert pace.seconds_left(finished) == pytest.approx(20 * 30 - 12)
    now[0] += 10_000
    assert pace.seconds_left(finished) == 0


def test_seconds_per_candidate_are_those_of_the_measured(finished, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("emomc.callbacks.search.pace.time.monotonic", lambda: now[0])
    pace = Pace()
    assert pace.seconds_per_candidate is None
    now[0] = 0.5 * finished.tally.measured
    pace.end_candidate(finished)
    assert pace.seconds_per_candidate == pytest.approx(0.5)


def test_the_hypervolume_comes_with_its_last_change(finished):
    first, second = (dataclasses.replace(finished.statistics, hypervolume=value) for value in (0.5, 0.75))
    for history, text in (
        ([], "hypervolume not known yet"),
        ([first], "hypervolume 0.50000"),
        ([first, second], "hypervolume 0.75000 (+0.25000)"),
    ):
        finished.history = history
        assert hypervolume_text(finished) == text
