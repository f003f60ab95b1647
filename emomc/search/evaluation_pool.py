"""Parallel evaluation of candidates by the processes of a search, one candidate per process at a time."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Collection, Sequence

from emomc.candidates.evaluation import Evaluation, Evaluator
from emomc.candidates.genotype import Genotype
from emomc.common.errors import ProcessLost, UserError
from emomc.lightning_modules.candidate import Stopped
from emomc.runtime.journal import SharedJournal


@dataclasses.dataclass(frozen=True)
class Job:
    """One evaluation of a candidate on images."""

    genotype: Genotype
    previous: Evaluation | None
    """Result of an earlier, incomplete evaluation; this one continues it."""
    required_correct: int
    """Images to classify correctly in order to survive; the evaluation stops when this can no longer be reached."""
    finish: Callable[[Evaluation], None]
    """Called with the result, on every process."""


class EvaluationPool:
    """Runs jobs on all processes in parallel.

    There is no central scheduler. A process that is free appends an entry to a shared journal, with the result of its
    last job. Every process reads the entries in the same order; for each it stores the result, then assigns jobs to the
    free processes. So all processes make the same assignments, and a free process waits only while no job is available.
    """

    def __init__(
        self,
        journal: SharedJournal,
        evaluator: Evaluator,
        take: Callable[[Collection[Genotype]], Job | None],
        stopped: Callable[[], bool],
    ) -> None:
        """Create the pool.

        Args:
            journal: shared by all processes; each reads all entries.
            evaluator: of this process.
            take: given the genotypes under evaluation, returns the next job, or None if no job is available. It returns
                the same on every process and changes nothing.
            stopped: whether this process must end its job and start no more.
        """
        self._journal = journal
        self._evaluator = evaluator
        self._take = take
        self._stopped = stopped
        self._jobs: list[Job | None] = [None] * journal.world_size
        self._free: list[int] = []
        """Processes without a job, in the order in which they became free."""
        self._stop = False

    def run(self) -> bool:
        """Run jobs until none is left; return False if a process was stopped before that.

        Raises:
            UserError: a job failed here.
            ProcessLost: a job failed on another process, or another process ended.
        """
        self._write(_Entry(self._journal.rank, self._stopped()))
        done: Job | None = None
        while len(self._free) < self._journal.world_size:
            self._act_on(_Entry.of(self._journal.read()))
            job = self._jobs[self._journal.rank]
            # A finished job stays in `_jobs` until its result has been read from the journal.
            if job is not None and job is not done:
                self._write(self._result(job))
                done = job
        return self._next_job() is None

    def _result(self, job: Job) -> _Entry:
        """Run this process's job, unless the process is stopped before its end."""
        if self._stopped():
            return _Entry(self._journal.rank, stopped=True)
        try:
            result = self._evaluator.evaluate(
                job.genotype,
                previous=job.previous,
                required_correct=job.required_correct,
                stopped=self._stopped,
            )
        except Stopped:
            return _Entry(self._journal.rank, stopped=True)
        except UserError:
            # The other processes wait for this one.
            self._write(_Entry(self._journal.rank, failed=True))
            raise
        return _Entry(self._journal.rank, self._stopped(), False, result)

    def _act_on(self, entry: _Entry) -> None:
        """Store a result, then assign jobs to free processes while jobs are available, unless a process was stopped."""
        if entry.failed:
            raise ProcessLost("expected every process to finish its candidate, found one that failed")
        if (job := self._jobs[entry.rank]) is not None:
            self._jobs[entry.rank] = None
            if entry.result is not None:
                job.finish(entry.result)
        self._free.append(entry.rank)
        self._stop = self._stop or entry.stopped
        while self._free and not self._stop and (next_job := self._next_job()) is not None:
            self._jobs[self._free.pop(0)] = next_job

    def _next_job(self) -> Job | None:
        return self._take([job.genotype for job in self._jobs if job is not None])

    def _write(self, entry: _Entry) -> None:
        self._journal.write(entry.numbers)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """The journal entry of a process that has become free."""

    rank: int
    stopped: bool = False
    """Whether the process must start no more jobs."""
    failed: bool = False
    """Whether its job failed; the process then exits."""
    result: Evaluation | None = None
    """Result of its job; None if it ran none."""

    @property
    def numbers(self) -> list[int]:
        """The entry as the whole numbers that a journal takes."""
        found = [self.rank, int(self.stopped), int(self.failed)]
        if self.result is None:
            return found
        result = self.result
        counts = [result.seen, result.images]
        if result.metric is None:
            return [*found, int(result.correct), *counts]
        return [*found, _bits_of(result.correct), *counts, _bits_of(result.metric)]

    @classmethod
    def of(cls, numbers: Sequence[int]) -> _Entry:
        """Decode an entry from the numbers in the journal."""
        rank, stopped, failed, *rest = numbers
        result = None
        if rest:
            correct, seen, images, *metric = rest
            if metric:
                result = Evaluation(_float_of(correct), seen, images, _float_of(metric[0]))
            else:
                result = Evaluation(correct, seen, images)
        return cls(rank, bool(stopped), bool(failed), result)


def _bits_of(value: float) -> int:
    """Return the 64 bits of a float as a whole number: not a digit is lost on the way to another process."""
    return int.from_bytes(struct.pack("<d", value), "little")


def _float_of(bits: int) -> float:
    """Undo ``_bits_of``."""
    value: float = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
    return value
