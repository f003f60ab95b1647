"""The time of the parts of a benchmark, and how much they use the GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Iterator

import torch

_SAMPLE_SECONDS = 0.25


class TimeIsUp(Exception):
    """A part was not begun, or not finished, because the time is up."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a run that has ended."""

    name: str
    seconds: float
    gpu_busy: float | None
    """Share of the time in which the GPU ran a kernel, 0..1; None without a GPU or without its counters."""
    gpu_gib: float | None
    """Most memory of the GPU that tensors took at a time, GiB; None without a GPU."""


class PartClock:
    """Times the parts of a run, which must end within a limit."""

    def __init__(self, minutes: float | None = None) -> None:
        """Start the clock.

        Args:
            minutes: limit of the whole run; None: none.
        """
        self.parts: list[Part] = []
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def minutes_left(self) -> float | None:
        """Minutes to the limit, 0 or more; None without a limit."""
        return None if self._deadline == math.inf else max(0.0, (self._deadline - time.monotonic()) / 60)

    @contextlib.contextmanager
    def part(self, name: str, needs_seconds: float = 0.0) -> Iterator[None]:
        """Time a part.

        Args:
            name: of the part.
            needs_seconds: what it is expected to take.

        Raises:
            TimeIsUp: less than that is left.
        """
        left = self._deadline - time.monotonic()
        if left <= needs_seconds:
            raise TimeIsUp(f"{name} is not begun: {max(0.0, left):.0f} s are left")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        with _GpuUse() as use:
            yield
        gib = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
        self.parts.append(Part(name, time.monotonic() - began, use.mean, gib))
        print(f"{name}: {self.parts[-1].seconds:.1f} s", flush=True)

    def longest(self, kind: str) -> float:
        """Return the seconds of the longest part so far whose name contains ``kind``; 0 if there is none."""
        return max((part.seconds for part in self.parts if kind in part.name), default=0.0)


class _GpuUse:
    """Samples the use of the GPU in a thread."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def mean(self) -> float | None:
        """Mean use, 0..1; None if there was no sample."""
        return sum(self._samples) / len(self._samples) if self._samples else None

    def __enter__(self) -> _GpuUse:
        if torch.cuda.is_available():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sample(self) -> None:
        # Without the package nvidia-ml-py, torch cannot read the counters.
        with contextlib.suppress(ModuleNotFoundError, RuntimeError):
            while not self._ended.wait(_SAMPLE_SECONDS):
                self._samples.append(torch.cuda.utilization() / 100)
