from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import pytest

from benchmarks.common.command_line import argument_parser, command, command_with


@pytest.fixture
def runs_as(monkeypatch: pytest.MonkeyPatch):
    """Make it look as if a module had been started with arguments."""

    def start(module: str, *arguments: str) -> None:
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec(module, None))
        monkeypatch.setattr(sys, "argv", ["/somewhere/file.py", *arguments])

    return start


def test_the_command_is_shown_as_it_is_typed(runs_as) -> None:
    runs_as("benchmarks.speed.scale", "--seeds", "0", "1")
    assert command() == "python -m benchmarks.speed.scale --seeds 0 1"
    assert argument_parser("").format_usage().startswith("usage: python -m benchmarks.speed.scale ")


def test_a_package_is_started_by_its_own_name(runs_as) -> None:
    runs_as("benchmarks.paper.__main__")
    assert command() == "python -m benchmarks.paper"


def test_absolute_paths_are_not_shown(runs_as) -> None:
    runs_as("benchmarks.paper.__main__", "--runs", "/home/me/runs", "--dataset", "imagefolder:/home/me/photos")
    assert command() == "python -m benchmarks.paper --runs DIR --dataset imagefolder:DIR"


def test_some_settings_are_shown_whether_they_were_given_or_not(runs_as) -> None:
    runs_as("benchmarks.quality.fuzz_packed", "--files", "10")
    assert command_with(files=10, seed=0) == "python -m benchmarks.quality.fuzz_packed --files 10 --seed 0"
