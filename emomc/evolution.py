"""NSGA-II over integer genes, asked and told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.problems.static import StaticProblem
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from emomc.genotype import Genotype, SearchSpace

FloatArray = NDArray[np.float64]


class Evolution:
    """The evolving population: asks for genotypes, and is told their losses.

    Settings of the paper's reference code: SBX with probability 0.9 and eta 15, polynomial mutation with eta 20, a
    population of twice the offspring.
    """

    def __init__(
        self, space: SearchSpace, *, offspring: int, generations: int, losses: int, constraints: int, seed: int
    ) -> None:
        """Prepare generation one.

        Args:
            space: what may be chosen.
            offspring: new genotypes per generation; twice as many survive.
            generations: how often ``ask`` may be called.
            losses: number of objectives, each minimised.
            constraints: number of constraints, each met at 0 or below.
            seed: of every random choice.
        """
        self.space = space
        self.survivors = 2 * offspring
        self._problem = Problem(
            n_var=len(space.lower), n_obj=losses, n_ieq_constr=constraints, xl=space.lower, xu=space.upper, vtype=int
        )
        # Operators are default arguments that all algorithms would share: pass fresh ones.
        self._algorithm = NSGA2(
            pop_size=self.survivors,
            n_offsprings=offspring,
            sampling=start_population(space, self.survivors, seed),
            crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
            mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        self._algorithm.setup(self._problem, termination=("n_gen", generations), seed=seed, verbose=False)
        self._asked: Population | None = None

    def ask(self) -> list[Genotype] | None:
        """Return the next generation's genotypes; None when the generations are over or nothing is left to try."""
        self._asked = self._algorithm.ask() if self._algorithm.has_next() else None
        if self._asked is None:
            return None
        return [self.space.decode(genes) for genes in self._asked.get("X")]

    def contenders(self, losses: FloatArray, violations: FloatArray) -> NDArray[np.int64]:
        """Say which of the asked genotypes could survive, given losses of which some may be too low.

        NSGA-II keeps whole fronts of parents and offspring together, and a part of the front that no longer fits.
        Whatever lies in a deeper front does not survive. If a loss given here is a lower bound of the true one, the
        true front is the same or deeper: a genotype that is no contender by its bound is none by its true loss. Nor
        does it dominate any contender, or that one would lie deeper still. So the survivors are those of exact losses
        once every contender's losses are exact.

        Args:
            losses: (asked, objectives), exact or lower bounds.
            violations: (asked, constraints); a genotype with one above 0 survives or not by violations alone.

        Returns:
            Rows of ``losses``.
        """
        parents = self._algorithm.pop
        if parents is None or len(parents) == 0:
            # The first population survives whole.
            return np.flatnonzero((violations <= 0).all(axis=1))
        parent_rows = (
            np.flatnonzero((parents.get("G") <= 0).all(axis=1)) if violations.shape[1] else np.arange(len(parents))
        )
        rows = np.flatnonzero((violations <= 0).all(axis=1))
        everyone = np.concatenate([parents.get("F")[parent_rows], losses[rows]])
        if not len(everyone):
            return rows
        fronts = NonDominatedSorting().do(everyone, n_stop_if_ranked=min(self.survivors, len(everyone)))
        reached = np.concatenate(fronts)
        return rows[np.sort(reached[reached >= len(parent_rows)] - len(parent_rows))]

    def tell(self, losses: FloatArray, violations: FloatArray) -> None:
        """Take the losses (asked, objectives) and violations (asked, constraints) of what ``ask`` gave.

        Raises:
            ValueError: one of them is not finite.
        """
        if not (np.isfinite(losses).all() and np.isfinite(violations).all()):
            raise ValueError("expected finite losses and violations, found others")
        values = {"F": losses, "G": violations} if violations.shape[1] else {"F": losses}
        Evaluator().eval(StaticProblem(self._problem, **values), self._asked)
        self._algorithm.tell(infills=self._asked)


def start_population(space: SearchSpace, size: int, seed: int) -> NDArray[np.int64]:
    """Return genes that cover the space: every region of levels, and every number of bits.

    Bits drawn independently for each layer average out, so that nearly all random candidates cost about the same. Here
    each candidate draws a common number of bits, from the fewest to the most, and its layers differ from it by up to
    two. The four corners (fewest and most bits at the lowest and the highest level) come first.

    Args:
        space: what may be chosen.
        size: number of candidates, 4 or more.
        seed: of the random choices.

    Returns:
        Genes, shape (size, 1 + layers); rows may repeat where the space is small.
    """
    generator = np.random.default_rng(seed)
    layers = len(space.layers)
    common = generator.permutation(np.linspace(space.min_bits, space.max_bits, size - 4))
    levels = np.rint(generator.permutation(np.linspace(0, len(space.levels) - 1, size - 4)))
    bits = np.rint(common[:, None] + generator.uniform(-2, 2, (size - 4, layers)))
    spread = np.column_stack([levels, bits])
    corners = [
        [level, *[bits] * layers] for level in (0, len(space.levels) - 1) for bits in (space.min_bits, space.max_bits)
    ]
    genes: NDArray[np.int64] = np.clip(np.concatenate([corners, spread]), space.lower, space.upper).astype(np.int64)
    return genes
