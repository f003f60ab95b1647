"""Evaluations side by side: each process of a search runs one, and whoever ends takes the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from emomc.errors import UserError
from emomc.evaluation import CandidateEvaluator, Evaluation
from emomc.genotype import Genotype


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a candidate over images."""

    genotype: Genotype
    begun: Evaluation | None
    """What an earlier run already saw."""
    needed: int
    """Images it must classify rightly to matter; the run ends as soon as it cannot."""
    finish: Callable[[Evaluation], None]
    """Takes the result, on every process."""


class EvaluationPool:
    """Runs jobs on all processes at once.

    The processes exchange results after each block of images. Blocks are of one size, so nobody waits long for another,
    though one candidate is rejected after its first block and its neighbour sees all images. All processes know the
    same at each exchange, and so come to the same next jobs without a process that hands them out.
    """

    def __init__(
        self,
        fabric: Fabric,
        evaluator: CandidateEvaluator,
        take: Callable[[Collection[Genotype]], Job | None],
        stopped: Callable[[], bool],
    ) -> None:
        """Say where jobs come from.

        Args:
            fabric: the processes.
            evaluator: this one's.
            take: gives the next job, the same on every process, or None while there is none, from what is under way.
                It is asked at the start and whenever a job has ended, and changes nothing.
            stopped: whether this process was told to begin nothing more.
        """
        self._fabric = fabric
        self._evaluator = evaluator
        self._take = take
        self._stopped = stopped
        self._jobs: list[Job | None] = [None] * fabric.world_size
        self._jobs_left = False

    def run(self) -> bool:
        """Run jobs until there are none; False if some are left because a process was told to stop.

        Raises:
            UserError: a job failed, here or on another process.
        """
        self._fill()
        while any(self._jobs):
            job = self._jobs[self._fabric.global_rank]
            if job is None:
                self._exchange()
                continue
            try:
                result = self._evaluator.evaluate(
                    job.genotype, begun=job.begun, needed=job.needed, between_blocks=self._exchange
                )
            except _AnotherFailed:
                raise
            except UserError:
                # The others wait for this process.
                self._gather(1, 0, 0, 0)
                raise
            self._exchange(result)
        return not self._jobs_left

    def _exchange(self, result: Evaluation | None = None) -> None:
        """Give the others this process's result, if it has one, take in theirs, and go on to the next jobs."""
        gathered = self._gather(0, *(dataclasses.astuple(result) if result else (0, 0, 0)))
        if any(failed for failed, *_ in gathered):
            raise _AnotherFailed("expected every process to finish its candidate, found one that failed")
        ended = {place: Evaluation(*numbers) for place, (_, *numbers) in enumerate(gathered) if any(numbers)}
        for place, evaluation in ended.items():
            if (job := self._jobs[place]) is not None:
                self._jobs[place] = None
                job.finish(evaluation)
        if ended:
            self._fill()

    def _fill(self) -> None:
        """Give every idle process a job while there are any, unless a process was told to stop."""
        stop = any(told for (told,) in self._gather(self._stopped()))
        for place, busy in enumerate(self._jobs):
            if busy is None:
                job = self._take([running.genotype for running in self._jobs if running is not None])
                if job is None or stop:
                    self._jobs_left = job is not None
                    return
                self._jobs[place] = job

    def _gather(self, *numbers: int) -> list[list[int]]:
        """Return the numbers of every process."""
        own = torch.tensor(numbers, dtype=torch.int64, device=self._fabric.device)
        return cast(Tensor, self._fabric.all_gather(own)).reshape(-1, len(own)).tolist()


class _AnotherFailed(UserError):
    """Another process gave up; it says why."""
