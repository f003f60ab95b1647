"""The evolutionary loop, from generation to generation."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection, Sequence
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.evaluation_log import EvaluationLog
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.runtime.journal import SharedJournal
from emomc.search.evaluation_pool import EvaluationPool, Job
from emomc.search.evolution import Evolution
from emomc.search.observer import SearchCallback, tell
from emomc.search.start_population import IntArray, start_population
from emomc.search.state import Candidate, Search


class SearchLoop:
    """Moves a search from generation to generation.

    Every process of a search runs the same loop and comes to the same decisions; they share the forward passes.
    """

    def __init__(
        self,
        search: Search,
        evaluator: CandidateEvaluator,
        log: EvaluationLog,
        observers: Sequence[SearchCallback],
        fabric: Fabric,
        journal: SharedJournal,
        stopped: Callable[[], bool],
        *,
        early_rejection: bool,
    ) -> None:
        config = search.config
        self.search = search
        self.evaluator = evaluator
        self.log = log
        self.observers = observers
        self.fabric = fabric
        self.journal = journal
        self.stopped = stopped
        self.hypervolumes: list[float] = []
        self.evolution = Evolution(
            search.space,
            config.evolution,
            losses=len(config.objectives),
            constraints=len(search.bounds),
            # The paper's settings draw it at random.
            start=self._start if config.variation == "integer" else None,
        )
        # Where survival does not follow from dominance alone, every candidate is seen by all images.
        self.early_rejection = early_rejection and self.evolution.ranks_by_dominance

    def run(self) -> bool:
        """Evolve to the end, or to Ctrl-C; say whether it was the end."""
        search = self.search
        while (genotypes := self.evolution.ask()) is not None:
            search.begin_generation()
            search.tally.asked += len(genotypes)
            candidates = search.candidates_of(genotypes)
            if not self._measure(candidates):
                return False
            self.evolution.tell(search.losses(candidates), search.violations(candidates))
            tell(self.observers, "on_generation_end", search)
            if self._on_plateau():
                break
        # Where nothing met the constraints, those that come closest are measured: better than an empty hand.
        if search.front:
            return True
        closest = search.least_violating()
        self._recall(closest)
        return self._see_all_images(closest)

    def test(self, evaluator: CandidateEvaluator) -> None:
        """Run the uncompressed network and the front over the test images."""
        front = self.search.front
        genotypes = [uncompressed_genotype(self.search.library), *(candidate.genotype for candidate in front)]
        results: dict[Genotype, Evaluation] = {}

        def take(running: Collection[Genotype]) -> Job | None:
            genotype = next((genotype for genotype in genotypes if genotype not in {*running, *results}), None)
            if genotype is None:
                return None
            return Job(genotype, None, 0, lambda result: results.update({genotype: result}))

        EvaluationPool(self.journal, evaluator, take, stopped=lambda: False).run()
        self.search.baseline_test = results[genotypes[0]]
        for candidate in front:
            candidate.test = results[candidate.genotype]

    def _start(self) -> IntArray:
        search, config = self.search, self.search.config
        return start_population(
            search.cost_model, search.space, search.cost_columns, config.evolution.survivors, config.seed
        )

    def _on_plateau(self) -> bool:
        """Say whether the hypervolume has stood still for as long as the search is patient."""
        patience = self.search.config.patience
        if patience is None:
            return False
        self.hypervolumes.append(self.search.hypervolume)
        return self.hypervolumes[-1] <= max(self.hypervolumes[:-patience], default=-1.0)

    def _measure(self, candidates: Sequence[Candidate]) -> bool:
        """Find the accuracies that decide who survives; False if interrupted.

        Whoever could survive, judged by the most its accuracy can be, is run until it could not any more or has seen
        all images; that is repeated until nobody unfinished could. ``Evolution.contenders`` says why the survivors are
        then those of a search that runs everyone to the end.
        """
        feasible = [candidate for candidate in dict.fromkeys(candidates) if not candidate.violation]
        self._recall(feasible)
        if not self.early_rejection:
            return self._see_all_images(feasible)
        return self._run(
            lambda: self._unfinished_contenders(candidates),
            lambda contender: self._need_to_survive(contender, feasible),
        )

    def _see_all_images(self, candidates: Sequence[Candidate]) -> bool:
        """Run candidates to their ends; False if interrupted."""
        return self._run(lambda: [candidate for candidate in candidates if not candidate.measured], lambda _: 0)

    def _recall(self, candidates: Sequence[Candidate]) -> None:
        """Give candidates what the log knows of them."""
        for candidate in candidates:
            if candidate.evaluation is None and (known := self.log.get(candidate.genotype)) is not None:
                candidate.evaluation = known
                self.search.tally.reused += 1
                tell(self.observers, "on_candidate_end", self.search, candidate)

    def _unfinished_contenders(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return who could survive but has images left to see, those that have seen none first.

        The more of a generation is known, the sooner another of it shows that it does not survive.
        """
        rows = self.evolution.contenders(self.search.losses(candidates), self.search.violations(candidates))
        contenders = dict.fromkeys(candidates[row] for row in rows)
        unfinished = [candidate for candidate in contenders if not candidate.measured]
        return sorted(unfinished, key=lambda candidate: candidate.evaluation is not None)

    def _need_to_survive(self, candidate: Candidate, generation: Sequence[Candidate]) -> int:
        """Return how many images a contender must get right to be one, as far as its generation is known by now.

        That only decides when the next look is due. One that falls short by what is known, but is a contender by what
        is not, sees one more block.
        """
        known = [other for other in generation if other is not candidate and other.evaluation is not None]
        losses = self.search.losses([*known, candidate])
        violations = self.search.violations([*known, candidate])
        images = self.evaluator.images

        def contends(correct: int) -> bool:
            losses[-1, 0] = 1 - correct / images
            return len(known) in self.evolution.contenders(losses, violations)

        needed = bisect.bisect_left(range(images), True, key=contends)
        return needed if candidate.evaluation is None else min(needed, candidate.evaluation.most_correct)

    def _run(self, unfinished: Callable[[], Sequence[Candidate]], needed: Callable[[Candidate], int]) -> bool:
        """Run whoever is unfinished, until nobody is, with the images each needs by then; False if interrupted."""

        def take(running: Collection[Genotype]) -> Job | None:
            idle = (candidate for candidate in unfinished() if candidate.genotype not in running)
            candidate = next(idle, None)
            return None if candidate is None else self._job(candidate, needed(candidate))

        return EvaluationPool(self.journal, self.evaluator, take, self.stopped).run()

    def _job(self, candidate: Candidate, needed: int) -> Job:
        """Return a run of a candidate over images it has not seen, whose result goes to search, log and observers."""
        begun = candidate.evaluation

        def finish(result: Evaluation) -> None:
            candidate.evaluation = result
            self.log.append(candidate.genotype, result)
            self.search.tally.measured += begun is None
            self.search.tally.images += result.seen - (begun.seen if begun else 0)
            tell(self.observers, "on_candidate_end", self.search, candidate)

        return Job(candidate.genotype, begun, needed, finish)

    def stop(self) -> bool:
        """Say whether any process saw Ctrl-C, or the first one that time is up; all of them say the same."""
        flag = torch.tensor(int(self.stopped()), device=self.fabric.device)
        return bool(cast(Tensor, self.fabric.all_gather(flag)).any())
