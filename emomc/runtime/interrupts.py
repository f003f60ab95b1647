"""Handling of Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from pytorch_lightning.utilities.exceptions import SIGTERMException


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed since the block began.

    A Trainer turns KeyboardInterrupt into an exit, so the first Ctrl-C only sets a flag; a second one raises
    KeyboardInterrupt at once. SIGTERM, unless it has a handler already, raises SystemExit with the status of a killed
    process, so that everything opened in the block is closed. Outside the main thread, where Python delivers no
    signals, nothing is changed.
    """
    pressed = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, note), signal.getsignal(signal.SIGTERM)
    if before[1] == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit_as_killed)
    try:
        with interrupts_of_trainers():
            yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def _exit_as_killed(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def interrupts_of_trainers() -> Iterator[None]:
    """Raise KeyboardInterrupt for Ctrl-C in a Trainer, and SystemExit with the status of a killed process for SIGTERM.

    A Trainer itself exits with status 1 for Ctrl-C, and for SIGTERM with status 0, as if it had finished.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        # The Trainer may have left SIGINT ignored.
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None
