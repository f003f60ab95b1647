"""Errors that are meant for the user."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave is wrong: one line that says what was expected and what was found.

    The command line prints it without a traceback and exits with status 2.
    """
