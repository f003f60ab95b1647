"""Evaluations side by side: each process of a search runs one, and whoever ends takes the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

from emomc.candidates.evaluation import Evaluation
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.runtime.journal import SharedJournal


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a candidate over images."""

    genotype: Genotype
    previous: Evaluation | None
    """What an earlier run already saw."""
    required_correct: int
    """Images that it must classify correctly to matter; the run ends as soon as it cannot."""
    finish: Callable[[Evaluation], None]
    """Takes the result, on every process."""


class EvaluationPool:
    """Runs jobs on all processes at once.

    No process hands out the jobs. Each writes into a shared journal that it is free, and the result of the job it had.
    All of them act on the entries in the journal's order: take in the result, then give the free a job each. So all of
    them come to the same jobs, and one that is free waits for another only while there is no job it could begin.
    """

    def __init__(
        self,
        journal: SharedJournal,
        evaluator: CandidateEvaluator,
        take: Callable[[Collection[Genotype]], Job | None],
        stopped: Callable[[], bool],
    ) -> None:
        """Say where jobs come from.

        Args:
            journal: of all processes, read to its end by each.
            evaluator: this process's.
            take: gives the next job, the same on every process, or None while there is none, from what is under way.
                It changes nothing.
            stopped: whether this process was told to begin nothing more.
        """
        self._journal = journal
        self._evaluator = evaluator
        self._take = take
        self._stopped = stopped
        self._jobs: list[Job | None] = [None] * journal.world_size
        self._free: list[int] = []
        """Processes without a job, in the order in which they said so."""
        self._stop = False

    def run(self) -> bool:
        """Run jobs until there are none; False if some are left because a process was told to stop.

        Raises:
            UserError: a job failed, here or on another process.
        """
        self._write(_Entry(self._journal.rank, self._stopped()))
        done: Job | None = None
        while len(self._free) < self._journal.world_size:
            self._act_on(_Entry.of(self._journal.read()))
            job = self._jobs[self._journal.rank]
            # A job that is done is still its process's until it comes to that entry.
            if job is not None and job is not done:
                self._write(self._result(job))
                done = job
        return self._next_job() is None

    def _result(self, job: Job) -> _Entry:
        """Run this process's job, unless it was told to stop since it last said that it is free."""
        if self._stopped():
            return _Entry(self._journal.rank, stopped=True)
        try:
            result = self._evaluator.evaluate(
                job.genotype, previous=job.previous, required_correct=job.required_correct
            )
        except UserError:
            # The others wait for this process.
            self._write(_Entry(self._journal.rank, failed=True))
            raise
        return _Entry(self._journal.rank, self._stopped(), False, *dataclasses.astuple(result))

    def _act_on(self, entry: _Entry) -> None:
        """Take in a result, and give jobs to the free while there are any, unless a process was told to stop."""
        if entry.failed:
            raise UserError("expected every process to finish its candidate, found one that failed")
        if (job := self._jobs[entry.rank]) is not None:
            self._jobs[entry.rank] = None
            if entry.images:
                job.finish(Evaluation(entry.correct, entry.seen, entry.images))
        self._free.append(entry.rank)
        self._stop = self._stop or entry.stopped
        while self._free and not self._stop and (next_job := self._next_job()) is not None:
            self._jobs[self._free.pop(0)] = next_job

    def _next_job(self) -> Job | None:
        return self._take([job.genotype for job in self._jobs if job is not None])

    def _write(self, entry: _Entry) -> None:
        self._journal.write([int(number) for number in dataclasses.astuple(entry)])


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What a process says when it is free."""

    rank: int
    stopped: bool = False
    """Whether it was told to begin nothing more."""
    failed: bool = False
    """Whether its job failed; it ends."""
    correct: int = 0
    """Of the job that it ran, as in ``Evaluation``."""
    seen: int = 0
    images: int = 0
    """0 if it ran none."""

    @classmethod
    def of(cls, numbers: Sequence[int]) -> _Entry:
        """Read what the journal holds of it."""
        rank, stopped, failed, correct, seen, images = numbers
        return cls(rank, bool(stopped), bool(failed), correct, seen, images)
