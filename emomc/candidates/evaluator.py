"""Evaluate the accuracy of candidates with a validation-only Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from emomc.callbacks.trainer.early_rejection import EarlyRejection
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.compression.levels import label_of
from emomc.data.resident import ResidentBlocks
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.runtime.gpu import kept_memory
from emomc.runtime.memory import memory_for
from emomc.runtime.trainers import validation_trainer

SMALLER_BATCHES = "lower it with emomc-pretrain --evaluation_batch_size; the library's levels are kept"
"""What the user can do if the batches of an evaluation do not fit in memory."""


class CandidateEvaluator:
    """Evaluates candidates on one device, on images held in its memory."""

    def __init__(
        self,
        networks: CompressedNetworks,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        precision: str = "32-true",
        network: nn.Module | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Move the images to the device of the networks.

        Args:
            networks: the library's compressed networks.
            images: float, (n, channels, height, width), normalised; or pixels, with ``prepare``.
            labels: int64, (n,).
            batch_size: images per forward pass; results are bit-identical for one batch size only.
            precision: Lightning's name of the arithmetic, such as ``32-true`` or ``bf16-mixed``.
            network: what runs the shared network of ``networks``, such as a ``CompiledNetwork``; None: itself.
            prepare: makes normalised images of a batch; None: they are.
        """
        self.networks = networks
        self.precision = precision
        self.batch_size = batch_size
        self.images = len(labels)
        device = networks.device
        networks.memory.reserve(images.nbytes)
        self._blocks = ResidentBlocks(images.to(device), labels.to(device), batch_size, networks.memory_format)
        self._runner = network or networks.network
        self._module = CandidateClassifier(self._runner, networks.library.manifest.num_classes, batch_size, prepare)
        self._rejection = EarlyRejection(self._blocks)
        # One for all candidates: making a Trainer reads the metadata of every package that is installed.
        self._trainer = validation_trainer(device, precision, [self._rejection])

    def evaluate(
        self,
        genotype: Genotype,
        *,
        previous: Evaluation | None = None,
        required_correct: float = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Evaluation:
        """Count the images that the candidate classifies correctly.

        Args:
            genotype: the candidate.
            previous: an earlier evaluation that was stopped; only its remaining images are evaluated.
            required_correct: stop once the candidate can no longer classify this many images correctly; 0: never.
            stopped: asked before each batch; once it returns True, the evaluation ends without a result.

        Returns:
            The evaluation, complete unless the candidate was rejected.

        Raises:
            UserError: the network gives scores that are not finite.
            Stopped: ``stopped`` returned True.
        """
        previous = previous or Evaluation(0, 0, self.images)
        self._blocks.begin(previous.seen, stoppable=required_correct > 0)
        networks = self.networks.of(genotype.level)
        network = networks.load(genotype)
        self._module.use(network if networks is not self.networks else self._runner)
        self._rejection.affordable_misses = previous.most_correct - required_correct if required_correct else math.inf
        memory = memory_for(f"evaluating batches of {self.batch_size} images", SMALLER_BATCHES)
        self._module.stopped = stopped
        with memory, kept_memory(self.networks.device):
            self._trainer.validate(self._module, self._blocks, verbose=False)
        if not self._module.finite:
            level = label_of(genotype.level)
            raise UserError(f"expected finite class scores, found others at level {level} with bits {genotype.bits}")
        return Evaluation(previous.correct + self._module.correct, previous.seen + self._module.seen, self.images)
