"""Ctrl-C while a command starts, which takes seconds: it imports torch."""

from __future__ import annotations

import os
import signal
from types import FrameType


class _End:
    """Ends the process at once, with one line and status 130.

    In the middle of an import, KeyboardInterrupt may end up in any of the packages, or as a traceback. Nothing is done
    yet that would have to be put in order.
    """

    def __init__(self, command: str) -> None:
        self.line = f"{command}: interrupted; the same command goes on from here\n"

    def __call__(self, number: int, frame: FrameType | None) -> None:
        os.write(2, self.line.encode())
        os._exit(130)


def end_at_interrupt(command: str) -> None:
    """From now on, end the process at Ctrl-C, unless it ignores Ctrl-C, as one in the background of a shell does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _End(command))


def raise_at_interrupt() -> None:
    """Undo ``end_at_interrupt``, if it was called: from now on, Ctrl-C raises KeyboardInterrupt."""
    if isinstance(signal.getsignal(signal.SIGINT), _End):
        signal.signal(signal.SIGINT, signal.default_int_handler)
