"""Errors and warnings to show to the user."""

from __future__ import annotations

_LONGEST_SHOWN = 60


class UserError(ValueError):
    """An error to show to the user: one line that says what was expected and what was found.

    The command line prints it without a traceback and exits with status 2.
    """


class ProcessLost(Exception):
    """Another process of this run ended or hangs: one line that says so.

    The command line prints it without a traceback and exits with status 1.
    """


class UserNote(UserWarning):
    """A warning to show to the user: one line, which the command line prints."""


class UserFact(UserNote):
    """Something to tell the user that is nothing to worry about: one line, which the command line prints as it is."""


def require(holds: bool, expected: str, found: object) -> None:
    """Raise a UserError that says what was expected and what was found, unless the condition holds."""
    if not holds:
        raise UserError(f"expected {expected}, found {shown(found)}")


def is_whole(value: object, least: int = 1) -> bool:
    """Return whether a value from a file is an integer of at least ``least``; a boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def shown(value: object) -> str:
    """Return a wrong value as a short text for an error, whatever its length."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def first_cause(error: BaseException) -> BaseException:
    """Return the error that led to an error: libraries wrap it in one with general advice."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if the text is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
