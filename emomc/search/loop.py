"""The evolutionary loop of a search."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Collection, Sequence

from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluation import Evaluation, Evaluator
from emomc.candidates.evaluation_log import EvaluationLog
from emomc.candidates.genotype import Genotype
from emomc.search.evaluation_pool import EvaluationPool, Job
from emomc.search.evolution import Evolution
from emomc.search.forecast import Forecast
from emomc.search.observer import SearchCallback, notify
from emomc.search.processes import Processes
from emomc.search.start_population import start_population
from emomc.search.state import Candidate, Search


class SearchLoop:
    """Runs the generations of a search.

    Every process of a search runs this loop and makes the same decisions; the evaluations are shared among them.
    """

    def __init__(
        self,
        search: Search,
        evaluator: Evaluator,
        log: EvaluationLog,
        observers: Sequence[SearchCallback],
        processes: Processes,
        *,
        early_rejection: bool,
    ) -> None:
        """Create the loop.

        Args:
            search: without candidates.
            evaluator: on the validation images.
            log: of this search.
            observers: to notify; empty on all processes but the first.
            processes: that share the evaluations.
            early_rejection: stop the evaluation of candidates that can no longer survive, if the algorithm allows it.
        """
        config = search.config
        self.search = search
        self.evaluator = evaluator
        self.log = log
        self.observers = observers
        self.processes = processes
        # In the paper the first population is random, and all offspring are evaluated.
        self._forecast, start = None, None
        if config.variation == "integer":
            self._forecast = Forecast(search, evaluator.images)
            start = functools.partial(start_population, search, self._forecast, config.evolution.survivors)
        self.evolution = Evolution(
            search.space,
            config.evolution,
            losses=len(config.objectives),
            constraints=len(search.bounds),
            start=start,
            forecast=self._forecast,
        )
        # Where survival depends on more than dominance, every candidate is evaluated on all images.
        self.early_rejection = early_rejection and self.evolution.ranks_by_dominance

    def run(self) -> bool:
        """Run all generations; return False if a process was stopped before the end."""
        search = self.search
        while (genotypes := self.evolution.ask()) is not None:
            search.begin_generation()
            search.tally.asked += len(genotypes)
            candidates = search.candidates_of(genotypes)
            if not self._evaluate_generation(candidates):
                return False
            self.evolution.tell(search.losses(candidates), search.violations(candidates))
            search.end_generation()
            notify(self.observers, "on_generation_end", search)
            if self._on_plateau():
                break
        # If no candidate meets the constraints, evaluate those that violate them least, so that the front is not empty.
        if search.front:
            return True
        closest = search.least_violating()
        self._recall(closest)
        return self.complete(closest)

    def test(self, evaluator: Evaluator, stopped: Callable[[], bool]) -> None:
        """Evaluate the uncompressed network and the front on the test images, until this process is stopped."""
        front = self.search.front
        genotypes = [uncompressed_genotype(self.search.library), *(candidate.genotype for candidate in front)]
        results: dict[Genotype, Evaluation] = {}

        def take(running: Collection[Genotype]) -> Job | None:
            genotype = next((genotype for genotype in genotypes if genotype not in {*running, *results}), None)
            if genotype is None:
                return None
            return Job(genotype, None, 0, lambda result: results.update({genotype: result}))

        EvaluationPool(self.processes.journal, evaluator, take, stopped).run()
        self.search.baseline_test = results.get(genotypes[0])
        for candidate in front:
            candidate.test = results.get(candidate.genotype)

    def foresee_next_bits(self) -> None:
        """Store what the search has learned: how much accuracy one bit less would cost each point of the front."""
        if self._forecast is not None:
            points = [candidate for candidate in self.search.front if not candidate.genotype.finetuned]
            costs = self._forecast.cost_of_next_bit([candidate.genotype for candidate in points])
            for candidate, row in zip(points, costs, strict=True):
                candidate.next_bit_costs = tuple(row)

    def _on_plateau(self) -> bool:
        """Whether the hypervolume has not grown for ``patience`` generations."""
        patience, history = self.search.config.patience, self.search.history
        if patience is None:
            return False
        earlier = max((entry.hypervolume for entry in history[:-patience]), default=-1.0)
        return history[-1].hypervolume <= earlier

    def _evaluate_generation(self, candidates: Sequence[Candidate]) -> bool:
        """Evaluate each candidate until it is complete or provably does not survive; return False if interrupted.

        ``Evolution.contenders`` explains why this gives the same survivors as complete evaluations.
        """
        feasible = [candidate for candidate in dict.fromkeys(candidates) if not candidate.violation]
        self._recall(feasible)
        if not self.early_rejection:
            return self.complete(feasible)
        return self._run(
            lambda: self._unfinished_contenders(candidates),
            lambda contender: self._required_correct(contender, feasible),
        )

    def complete(self, candidates: Sequence[Candidate]) -> bool:
        """Evaluate candidates on all images; return False if interrupted."""
        return self._run(lambda: [candidate for candidate in candidates if not candidate.measured], lambda _: 0)

    def _recall(self, candidates: Sequence[Candidate]) -> None:
        """Take the evaluations of candidates from the log where it has them."""
        for candidate in candidates:
            if candidate.evaluation is None and (known := self.log.get(candidate.genotype)) is not None:
                candidate.evaluation = known
                self.search.tally.reused += 1
                notify(self.observers, "on_candidate_end", self.search, candidate)

    def _unfinished_contenders(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates that could survive and are not complete; those without an evaluation come first.

        The more candidates of a generation have an evaluation, the earlier the others can be rejected.
        """
        rows = self.evolution.contenders(self.search.losses(candidates), self.search.violations(candidates))
        contenders = dict.fromkeys(candidates[row] for row in rows)
        unfinished = [candidate for candidate in contenders if not candidate.measured]
        return sorted(unfinished, key=lambda candidate: candidate.evaluation is not None)

    def _required_correct(self, candidate: Candidate, generation: Sequence[Candidate]) -> int:
        """Return how many images a candidate must classify correctly to survive, given the evaluations so far.

        This only decides when its evaluation pauses. A candidate below this number that could still survive, because
        others of its generation have no evaluation yet, is evaluated on one more block of images.
        """
        known = [other for other in generation if other is not candidate and other.evaluation is not None]
        losses = self.search.losses([*known, candidate])
        violations = self.search.violations([*known, candidate])
        images = self.evaluator.images

        def contends(correct: int) -> bool:
            losses[-1, 0] = 1 - correct / images
            return len(known) in self.evolution.contenders(losses, violations)

        required = bisect.bisect_left(range(images), True, key=contends)
        return (
            required if candidate.evaluation is None else min(required, math.floor(candidate.evaluation.most_correct))
        )

    def _run(self, unfinished: Callable[[], Sequence[Candidate]], required: Callable[[Candidate], int]) -> bool:
        """Evaluate unfinished candidates until none is left; return False if interrupted.

        Args:
            unfinished: returns the candidates to evaluate, given the evaluations so far.
            required: returns how many images a candidate must classify correctly, given the evaluations so far.
        """

        def take(running: Collection[Genotype]) -> Job | None:
            idle = (candidate for candidate in unfinished() if candidate.genotype not in running)
            candidate = next(idle, None)
            return None if candidate is None else self._job(candidate, required(candidate))

        return EvaluationPool(self.processes.journal, self.evaluator, take, self.processes.stopped).run()

    def _job(self, candidate: Candidate, required_correct: int) -> Job:
        """Return the job that continues a candidate's evaluation; the result goes to search, log and observers."""
        previous = candidate.evaluation

        def finish(result: Evaluation) -> None:
            candidate.evaluation = result
            self.log.append(candidate.genotype, result)
            self.search.tally.measured += previous is None
            self.search.tally.images += result.seen - (previous.seen if previous else 0)
            notify(self.observers, "on_candidate_end", self.search, candidate)

        return Job(candidate.genotype, previous, required_correct, finish)
