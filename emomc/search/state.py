"""The state of a search: what it was asked, what it knows, and the front that follows."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.cost_model import CostModel
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.common.pareto import ParetoFront, hypervolume
from emomc.common.run_folder import SearchFolder
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.search.config import Finetuning, SearchConfig, resolve_bound

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(eq=False)
class Candidate:
    """One decoded genotype of a search and what is known of it."""

    index: int
    """Position in the order of asking, from 0."""
    generation: int
    """Generation that first asked for it, from 1."""
    genotype: Genotype
    costs: dict[str, float]
    """Column of ``CostModel.costs`` -> value."""
    violation: float
    """By how much its costs exceed the constraints, as a fraction of each bound, summed; 0 if it meets them."""
    evaluation: Evaluation | None = None
    """On the validation images; None before, and for candidates that break a constraint."""
    test: Evaluation | None = None
    """On the test images; only the final front has it."""

    @property
    def measured(self) -> bool:
        """Whether its accuracy on all validation images is known."""
        return self.evaluation is not None and self.evaluation.complete

    @property
    def accuracy(self) -> float:
        """Validation accuracy, 0..1: measured, or the most it can be."""
        return 1.0 if self.evaluation is None else self.evaluation.accuracy


class Phase(enum.Enum):
    """What a search is doing; the value says it to people."""

    SEARCHING = "searching"
    FINETUNING = "fine-tuning the front"
    TESTING = "testing the front on the test images"


@dataclasses.dataclass(frozen=True)
class FrontStatistics:
    """The front at one moment of a search."""

    generation: int
    """From 1."""
    evaluations: int
    """Distinct candidates so far."""
    hypervolume: float
    """Share of the space of (error, cost / uncompressed cost, ...) below (1, 1, ...) that the front dominates, 0..1."""
    front_size: int
    """Points on the front."""
    best_accuracy: float
    """Largest validation accuracy on the front, 0..1."""


@dataclasses.dataclass(frozen=True)
class FinetunedPoint:
    """A point of the front and what fine-tuning made of it."""

    before: Candidate
    after: Candidate
    kept: bool
    """Whether what it was does not dominate it; equal counts as dominated."""


@dataclasses.dataclass
class Tally:
    """What a search did so far."""

    asked: int = 0
    """Genotypes the evolution asked for, repeats included."""
    measured: int = 0
    """Candidates run over images here."""
    reused: int = 0
    """Candidates answered from a log."""
    images: int = 0
    """Images that candidates were run on."""


class Search:
    """The state of one search; ``run_search`` changes it, observers read it."""

    def __init__(
        self, library: Library, config: SearchConfig, files: SearchFolder, space: SearchSpace, cost_model: CostModel
    ) -> None:
        """Begin without candidates."""
        self.library = library
        self.config = config
        self.files = files
        self.space = space
        self.cost_model = cost_model
        self.uncompressed = cost_model.uncompressed()
        self.baseline_test: Evaluation | None = None
        self.phase = Phase.SEARCHING
        self.generation = 0
        self.finished = False
        """Whether the search came to its end: the last generation, or a plateau of the hypervolume."""
        self.interrupted = False
        """Whether Ctrl-C ended it."""
        self.tally = Tally()
        self.candidates: list[Candidate] = []
        self.history: list[FrontStatistics] = []
        """The front at the end of each generation."""
        self.finetuning: Finetuning | None = None
        """How the points of the final front are fine-tuned, if they are."""
        self.finetuned: list[FinetunedPoint] = []
        """Points of the front that were fine-tuned, in the order of the front then."""
        self._next_index = 0
        self._by_genotype: dict[Genotype, Candidate] = {}
        self.bounds = {
            cost_model.columns[cost]: resolve_bound(bound, self.uncompressed[cost_model.columns[cost]])
            for cost, bound in config.constraints.items()
        }

    @property
    def folder(self) -> Path:
        """Where the files of the search lie."""
        return self.files.path

    @property
    def inputs(self) -> LayerInputStore | None:
        """What the layers see of training images, where biases are corrected or activations narrow."""
        return self.cost_model.networks.inputs

    @property
    def cost_columns(self) -> tuple[str, ...]:
        """The cost columns that are objectives."""
        return tuple(self.cost_model.columns[name] for name in self.config.objectives if name != "accuracy")

    @property
    def front(self) -> list[Candidate]:
        """The non-dominated candidates among those measured, most accurate first.

        If no candidate meets the constraints, the measured ones that violate them least.
        """
        measured = [candidate for candidate in self.candidates if candidate.measured]
        least = min((candidate.violation for candidate in measured), default=0.0)
        eligible = [candidate for candidate in measured if candidate.violation <= least]
        if not eligible:
            return []
        columns = {"accuracy": [candidate.accuracy for candidate in eligible]}
        columns |= {name: [candidate.costs[name] for candidate in eligible] for name in self.cost_columns}
        return [eligible[row] for row in ParetoFront.of(columns).rows]

    @property
    def reachable(self) -> bool:
        """Whether the cheapest genotype, the fewest bits at the lowest level, meets the constraints."""
        cheapest = Genotype(self.space.levels[0], (self.space.min_bits,) * len(self.space.layers))
        costs = self.cost_model.costs([cheapest])
        return all(float(costs[name][0]) <= bound for name, bound in self.bounds.items())

    @property
    def rejected(self) -> int:
        """Candidates whose evaluation was stopped because they could no longer matter."""
        return sum(c.evaluation is not None and not c.evaluation.complete for c in self.candidates)

    def least_violating(self) -> list[Candidate]:
        """Return the candidates that exceed the constraints least."""
        least = min((candidate.violation for candidate in self.candidates), default=0.0)
        return [candidate for candidate in self.candidates if candidate.violation == least]

    @property
    def statistics(self) -> FrontStatistics:
        """The front as it is now."""
        front = self.front
        losses = self.normalised_losses(front)
        return FrontStatistics(
            generation=self.generation,
            evaluations=len(self.candidates),
            hypervolume=hypervolume(losses, [1.0] * losses.shape[1]),
            front_size=len(front),
            best_accuracy=max((candidate.accuracy for candidate in front), default=0.0),
        )

    def begin_generation(self) -> None:
        """Count one more generation."""
        self.generation += 1

    def end_generation(self) -> None:
        """Add the statistics of the generation to the history."""
        self.history.append(self.statistics)

    def violations(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Return by which fraction of each bound the candidates exceed it, negative below, shape (n, constraints)."""
        rows = [[candidate.costs[name] / bound - 1 for name, bound in self.bounds.items()] for candidate in candidates]
        return np.array(rows, dtype=np.float64).reshape(len(candidates), len(self.bounds))

    def losses(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Return what the evolution minimises, shape (n, objectives): the error, and the costs that are objectives."""
        rows = [
            [1 - candidate.accuracy, *(candidate.costs[name] for name in self.cost_columns)] for candidate in candidates
        ]
        return np.array(rows, dtype=np.float64)

    def normalised_losses(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Return losses with every cost divided by the uncompressed network's, shape (n, objectives)."""
        scale = [1.0, *(self.uncompressed[name] for name in self.cost_columns)]
        return self.losses(candidates).reshape(len(candidates), len(scale)) / np.array(scale)

    def candidates_of(self, genotypes: Sequence[Genotype]) -> list[Candidate]:
        """Return the candidate of each genotype, a new one where there is none yet."""
        new = list(dict.fromkeys(genotype for genotype in genotypes if genotype not in self._by_genotype))
        if new:
            costs = self.cost_model.costs(new)
            for row, genotype in enumerate(new):
                self._enter(self._candidate(genotype, {name: float(column[row]) for name, column in costs.items()}))
        return [self._by_genotype[genotype] for genotype in genotypes]

    def add_finetuned(self, before: Candidate, genotype: Genotype, evaluation: Evaluation) -> FinetunedPoint:
        """Cost a fine-tuned point anew, and make it a candidate unless what it was dominates it.

        Args:
            before: the point.
            genotype: the same with the name of its fine-tuned weights.
            evaluation: of the fine-tuned weights on the validation images.
        """
        costs = {name: float(column[0]) for name, column in self.cost_model.costs([genotype]).items()}
        after = self._candidate(genotype, costs)
        after.evaluation = evaluation
        no_better = [after.costs[name] >= before.costs[name] for name in self.cost_columns]
        point = FinetunedPoint(before, after, not (after.accuracy <= before.accuracy and all(no_better)))
        self.finetuned.append(point)
        if point.kept and genotype not in self._by_genotype:
            self._enter(after)
        return point

    def _candidate(self, genotype: Genotype, costs: dict[str, float]) -> Candidate:
        over = [max(0.0, costs[name] / bound - 1) for name, bound in self.bounds.items()]
        candidate = Candidate(self._next_index, self.generation, genotype, costs, sum(over))
        # No two candidates share an index, not even with a fine-tuned one that is not kept.
        self._next_index += 1
        return candidate

    def _enter(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        self._by_genotype[candidate.genotype] = candidate
