"""Ctrl-C while modules are imported, which takes seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def ending_at_interrupt(command: str) -> Iterator[None]:
    """End the process at Ctrl-C with one line and status 130 while the block runs.

    In the middle of an import, KeyboardInterrupt may end up in any of the packages, or as a traceback. Nothing is done
    yet that would have to be put in order.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{command}: interrupted; the same command goes on from here\n".encode())
        os._exit(130)

    # Started in the background by a shell, the process ignores Ctrl-C.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
