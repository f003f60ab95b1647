"""The command line of a benchmark: its parser, and the command as its page shows it."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help shows the command as it is typed and the description as it is written."""
    return argparse.ArgumentParser(
        prog=" ".join(_program()), description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def command() -> str:
    """Return the command that runs, with DIR for absolute paths, which mean nothing on another machine."""
    return shlex.join([*_program(), *(_without_path(word) for word in sys.argv[1:])])


def command_with(**settings: object) -> str:
    """Return the command that runs with these settings alone, also those that were left at their defaults."""
    words = [word for name, value in settings.items() for word in (f"--{name}", _without_path(str(value)))]
    return shlex.join([*_program(), *words])


def _program() -> list[str]:
    """Return how the module that runs is started."""
    spec = sys.modules["__main__"].__spec__
    return ["python", sys.argv[0]] if spec is None else ["python", "-m", spec.name.removesuffix(".__main__")]


def _without_path(word: str) -> str:
    head, colon, path = word.rpartition(":")
    return f"{head}{colon}DIR" if Path(path).is_absolute() else word
