"""Evaluate candidates of a user's own task with the module's own validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.common.metric import Metric
from emomc.runtime.memory import memory_for
from emomc.tasks.validation import TaskValidation, finite_or_worst

_TOLERANCE = 1e-4


class ModuleEvaluator:
    """Evaluates candidates on one device: the compressed network takes the place of the network in the module.

    Where the metric is a mean of values per sample, it is computed block by block, so that an evaluation can stop after
    any of them. The blocks are always the same: the result does not depend on where it stopped in between.
    """

    def __init__(
        self,
        networks: CompressedNetworks,
        validation: TaskValidation,
        metric: Metric,
        *,
        precision: str = "32-true",
        blocks: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Take what is evaluated.

        Args:
            networks: the library's compressed networks.
            validation: of the module, whose batches are held: it has run once.
            metric: that it gives.
            precision: Lightning's name of the arithmetic.
            blocks: positions of the batches of each block, if the metric is a mean of values per sample, each within
                the range; None: it is computed over all batches at once.
        """
        self.networks = networks
        self.precision = precision
        self.images = validation.batches.samples
        self.batch_size = max(validation.batches.sizes)
        self._validation = validation
        self._metric = metric
        self._blocks = blocks

    def evaluate(
        self,
        genotype: Genotype,
        *,
        previous: Evaluation | None = None,
        required_correct: float = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Evaluation:
        """Run the module's validation with the candidate's network.

        A metric that is not finite counts as the worst of its range.

        Args:
            genotype: the candidate.
            previous: an earlier evaluation that was stopped; only its remaining blocks are evaluated.
            required_correct: stop once the sum of qualities can no longer reach this; 0: never.
            stopped: asked before each batch; once it returns True, the evaluation ends without a result.

        Raises:
            UserError: the module fails, or a value is outside the range that bounds it.
            Stopped: ``stopped`` returned True.
        """
        network = self._loaded(genotype)
        self._validation.stopped = stopped
        memory = memory_for("evaluating batches of your validation loader", "lower their size")
        with memory, self._validation.task.with_network(network):
            if self._blocks is None:
                value = self._value(None)
                return Evaluation(self._metric.quality(value) * self.images, self.images, self.images, value)
            return self._by_blocks(previous or Evaluation(0, 0, self.images), required_correct)

    def check_blocks(self, genotype: Genotype) -> None:
        """Check on one network that the metric is the mean over the blocks.

        Raises:
            UserError: it is not.
        """
        found, self._blocks, blocks = self.evaluate(genotype), None, self._blocks
        whole = self.evaluate(genotype)
        self._blocks = blocks
        if abs(found.accuracy - whole.accuracy) > _TOLERANCE:
            raise UserError(
                f"expected {self._metric.name} to be a mean of one value for each sample, found {whole.metric:g} over "
                f"all data and {found.metric:g} as the mean over batches: make the library with --mean_of_samples false"
            )

    def quality_of_batch(self, genotype: Genotype, position: int) -> float:
        """Return the quality of a candidate on one batch."""
        with self._validation.task.with_network(self._loaded(genotype)):
            return self._metric.quality(self._value([position]))

    def _loaded(self, genotype: Genotype) -> nn.Module:
        """Return the network of a candidate's level, with the candidate's weights."""
        return self.networks.of(genotype.level).load(genotype)

    def _by_blocks(self, previous: Evaluation, required: float) -> Evaluation:
        seen, total = previous.seen, float(previous.correct)
        sizes = self._validation.batches.sizes
        done = 0
        for block in self._blocks or ():
            samples = sum(sizes[position] for position in block)
            done += samples
            if done <= seen:
                continue
            quality = self._metric.quality(self._value(block))
            if not -_TOLERANCE <= quality <= 1 + _TOLERANCE:
                raise UserError(
                    f"expected {self._metric.name} within {self._metric.low:g}..{self._metric.high:g} for every "
                    f"sample, found {self._metric.value(quality):g}: give its bounds as --metric_range, or say "
                    f"--mean_of_samples false"
                )
            seen, total = seen + samples, total + samples * quality
            # Below the next lower whole number the candidate does not contend; between the two it is not known.
            if seen < self.images and total + self.images - seen <= required - 1:
                break
        return Evaluation(total, seen, self.images, self._metric.value(total / seen))

    def _value(self, positions: Sequence[int] | None) -> float:
        return finite_or_worst(self._validation.run(positions), self._metric.worst)


def blocks_of(order: Sequence[int]) -> list[list[int]]:
    """Return batches in an order as blocks: one in the first, since early samples decide most often, then two."""
    listed = list(order)
    return [listed[:1], *(listed[first : first + 2] for first in range(1, len(listed), 2))]
