"""The state of a search: its settings, its candidates and its front."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emomc.candidates.cost_model import RAM_COLUMN, CostModel
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.common.errors import UserError
from emomc.common.pareto import ParetoFront, hypervolume
from emomc.common.run_folder import SearchFolder
from emomc.compression.levels import LevelName, label_of
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.search.config import RAM, Finetuning, SearchConfig, resolve_bound

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(eq=False)
class Candidate:
    """A genotype of a search with its costs and evaluations."""

    index: int
    """Number of the candidate, from 0, in the order in which candidates were first asked for."""
    generation: int
    """Generation that first asked for it, from 1."""
    genotype: Genotype
    costs: dict[str, float]
    """Column of ``CostModel.costs`` -> value."""
    violation: float
    """By how much its costs exceed the constraints, as a fraction of each bound, summed; 0 if it meets them."""
    evaluation: Evaluation | None = None
    """On the validation images; None if not evaluated, as for candidates that violate a constraint."""
    test: Evaluation | None = None
    """On the test images; None except for the final front."""
    next_bit_costs: tuple[float, ...] | None = None
    """How much accuracy each layer's next bit less is expected to cost, 0..1, NaN where there is none; None except for
    the final front of a search that learns to expect."""

    @property
    def measured(self) -> bool:
        """Whether it was evaluated on all validation images."""
        return self.evaluation is not None and self.evaluation.complete

    @property
    def accuracy(self) -> float:
        """Validation accuracy, 0..1, or the quality of another metric; a bound if the evaluation is not complete."""
        return 1.0 if self.evaluation is None else self.evaluation.accuracy


class Phase(enum.Enum):
    """What a search is doing; the value is the text to show."""

    SEARCHING = "searching"
    FINETUNING = "fine-tuning"
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
    """A point of the front before and after fine-tuning."""

    before: Candidate
    after: Candidate
    kept: bool
    """False if ``before`` is at least as good in every objective."""


@dataclasses.dataclass
class Tally:
    """Counters of a search."""

    asked: int = 0
    """Genotypes that the evolution returned, including repeated ones."""
    measured: int = 0
    """Candidates that this run evaluated on images, completely or not."""
    reused: int = 0
    """Candidates whose evaluation came from a log."""
    images: int = 0
    """Images evaluated, summed over candidates."""


class Search:
    """The state of one search; ``run_search`` changes it, observers read it."""

    def __init__(
        self, library: Library, config: SearchConfig, files: SearchFolder, space: SearchSpace, cost_model: CostModel
    ) -> None:
        """Create the state of a search without candidates."""
        self.library = library
        self.config = config
        self.files = files
        self.space = space
        self.cost_model = cost_model
        self.metric = library.manifest.metric()
        """By which networks are compared; the accuracy, unless the library is of a user's own task."""
        self.uncompressed = cost_model.uncompressed()
        self.baseline: Evaluation | None = None
        """Of the uncompressed network on the validation images, if these are not those of the library."""
        self.baseline_test: Evaluation | None = None
        self.dataset = str(library.manifest.data["dataset"])
        """Name of the data that accuracies are measured on."""
        self.images_sha256: dict[str, str] = {}
        """Split -> digest of its images and labels, of the splits that were loaded."""
        self.compiled = False
        """Whether whole batches go through a compiled graph."""
        self.phase = Phase.SEARCHING
        self.generation = 0
        self.finished = False
        """Whether the search ran to its end: the last generation or a plateau, and fine-tuning if set."""
        self.interrupted = False
        """Whether Ctrl-C stopped it."""
        self.tally = Tally()
        self.candidates: list[Candidate] = []
        self.history: list[FrontStatistics] = []
        """The front at the end of each generation."""
        self.finetuning: Finetuning | None = None
        """How points are fine-tuned; None: not."""
        self.finetuned: list[FinetunedPoint] = []
        """The fine-tuned points, in the order in which they were chosen."""
        self._next_index = 0
        self._by_genotype: dict[Genotype, Candidate] = {}
        self.bounds = {
            cost_model.columns[cost]: resolve_bound(bound, self.uncompressed[cost_model.columns[cost]])
            for cost, bound in config.constraints.items()
            if cost != RAM
        }
        if config.ram_constraint is not None:
            self.bounds[RAM_COLUMN] = 1024 * resolve_bound(config.ram_constraint, self.uncompressed[RAM_COLUMN] / 1024)

    @property
    def folder(self) -> Path:
        """Folder of the search's files."""
        return self.files.path

    @property
    def inputs(self) -> LayerInputStore | None:
        """Calibration data of the layers' inputs; None unless biases are corrected or activations rounded."""
        return self.cost_model.networks.inputs

    @property
    def dense_accuracy(self) -> float:
        """Validation accuracy of the uncompressed network, 0..1, or the quality of another metric."""
        return self.library.dense_accuracy if self.baseline is None else self.baseline.accuracy

    @property
    def points_of_phase(self) -> int:
        """Number of points that are fine-tuned (at most, with a budget) or tested in this phase."""
        settings = self.finetuning
        if self.phase is Phase.FINETUNING and settings is not None and settings.budget is not None:
            return settings.budget // settings.epochs
        return len(self.front)

    def level_accuracy(self, level: LevelName) -> float:
        """Return the validation accuracy of a level that is not quantized, 0..1, on the library's images."""
        return self.library.record(level).validation_accuracy

    @property
    def cost_columns(self) -> tuple[str, ...]:
        """Columns of ``CostModel.costs`` that are objectives."""
        return tuple(self.cost_model.columns[name] for name in self.config.objectives if name != "accuracy")

    @property
    def front(self) -> list[Candidate]:
        """The non-dominated candidates among those evaluated on all images, most accurate first.

        Candidates that violate a constraint are left out; if all do, those that violate them least are used.
        """
        measured = [candidate for candidate in self.candidates if candidate.measured]
        least = min((candidate.violation for candidate in measured), default=0.0)
        eligible = [candidate for candidate in measured if candidate.violation <= least]
        if not eligible:
            return []
        columns = {"accuracy": [candidate.accuracy for candidate in eligible]}
        columns |= {name: [candidate.costs[name] for candidate in eligible] for name in self.cost_columns}
        return [eligible[row] for row in ParetoFront.of(columns).rows]

    def check_reachable(self, bounds: Mapping[str, float], what: str) -> None:
        """Check that the cheapest network of the search, with the fewest bits at the lowest level, is within bounds.

        Args:
            bounds: column of ``CostModel.costs`` -> upper bound.
            what: what sets the bounds, for the error ("the pick budget:size_kib=3").

        Raises:
            UserError: it exceeds one.
        """
        if not bounds:
            return
        level, bits = label_of(self.space.levels[0]), self.space.min_bits
        narrowest = min(self.space.activation_bits, default=None)
        cheapest = [self.space.uniform(level, bits, narrowest) for level in self.space.levels]
        costs = self.cost_model.costs(cheapest[:1])
        for name, bound in bounds.items():
            least = float(costs[name][0])
            if name == RAM_COLUMN:
                # It does not grow with the level, and hardly depends on it.
                least = min(self.cost_model.ram_bytes(genotype) for genotype in cheapest)
                if least > bound:
                    raise UserError(
                        f"expected {what} to be met by a network of this search, found that the least RAM possible "
                        f"is {least / 1024:.2f} KiB ({least:,} bytes)"
                    )
            elif least > bound:
                raise UserError(
                    f"expected {what} to be met by a network of this search, found that the cheapest (level {level}, "
                    f"{bits} bits) has {name} {least:.4g}, above {bound:.4g}"
                )

    @property
    def rejected(self) -> int:
        """Number of candidates whose evaluation was stopped because they could no longer survive."""
        return sum(c.evaluation is not None and not c.evaluation.complete for c in self.candidates)

    def least_violating(self) -> list[Candidate]:
        """Return the candidates with the least constraint violation."""
        least = min((candidate.violation for candidate in self.candidates), default=0.0)
        return [candidate for candidate in self.candidates if candidate.violation == least]

    @property
    def statistics(self) -> FrontStatistics:
        """Statistics of the current front."""
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
        """Increment the number of the generation."""
        self.generation += 1

    def end_generation(self) -> None:
        """Add the statistics of the generation to the history."""
        self.history.append(self.statistics)

    def violations(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Return cost / bound - 1 of each candidate and constraint, shape (n, constraints); above 0 is a violation."""
        rows = [[candidate.costs[name] / bound - 1 for name, bound in self.bounds.items()] for candidate in candidates]
        return np.array(rows, dtype=np.float64).reshape(len(candidates), len(self.bounds))

    def total_violations(self, costs: Mapping[str, FloatArray]) -> FloatArray:
        """Return by how much costs exceed the constraints, as a fraction of each bound, summed, (n,).

        Args:
            costs: as ``CostModel.costs`` returns them for n genotypes.
        """
        over = [np.maximum(0.0, costs[name] / bound - 1) for name, bound in self.bounds.items()]
        totals: FloatArray = np.sum(over, axis=0) if over else np.zeros(len(next(iter(costs.values()))))
        return totals

    def losses(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Return the values to minimise, shape (n, objectives): the error and the costs that are objectives."""
        rows = [
            [1 - candidate.accuracy, *(candidate.costs[name] for name in self.cost_columns)] for candidate in candidates
        ]
        return np.array(rows, dtype=np.float64)

    def normalised_losses(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Return losses with every cost divided by the uncompressed network's, shape (n, objectives)."""
        scale = [1.0, *(self.uncompressed[name] for name in self.cost_columns)]
        return self.losses(candidates).reshape(len(candidates), len(scale)) / np.array(scale)

    def candidates_of(self, genotypes: Sequence[Genotype]) -> list[Candidate]:
        """Return the candidate of each genotype; create those that do not exist yet."""
        new = list(dict.fromkeys(genotype for genotype in genotypes if genotype not in self._by_genotype))
        if new:
            costs = self.cost_model.costs(new)
            violations = self.total_violations(costs)
            for row, genotype in enumerate(new):
                own = {name: float(column[row]) for name, column in costs.items()}
                self._enter(self._candidate(genotype, own, float(violations[row])))
        return [self._by_genotype[genotype] for genotype in genotypes]

    def add_finetuned(self, before: Candidate, genotype: Genotype, evaluation: Evaluation) -> FinetunedPoint:
        """Compute the costs of a fine-tuned point and add it as a candidate unless ``before`` dominates or equals it.

        Args:
            before: the point before fine-tuning.
            genotype: its genotype with the name of its fine-tuned weights.
            evaluation: of the fine-tuned weights on the validation images.
        """
        costs = self.cost_model.costs([genotype])
        own = {name: float(column[0]) for name, column in costs.items()}
        after = self._candidate(genotype, own, float(self.total_violations(costs)[0]))
        after.evaluation = evaluation
        not_cheaper = [after.costs[name] >= before.costs[name] for name in self.cost_columns]
        point = FinetunedPoint(before, after, not (after.accuracy <= before.accuracy and all(not_cheaper)))
        self.finetuned.append(point)
        if point.kept and genotype not in self._by_genotype:
            self._enter(after)
        return point

    def _candidate(self, genotype: Genotype, costs: dict[str, float], violation: float) -> Candidate:
        candidate = Candidate(self._next_index, self.generation, genotype, costs, violation)
        # Every candidate has its own index, also a fine-tuned one that is not kept.
        self._next_index += 1
        return candidate

    def _enter(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        self._by_genotype[candidate.genotype] = candidate
