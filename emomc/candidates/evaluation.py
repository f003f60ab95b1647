"""From a candidate to its accuracy, through a validation-only Trainer."""

from __future__ import annotations

import dataclasses
import hashlib

from torch import Tensor

from emomc.callbacks.trainer.early_rejection import EarlyRejection
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError, is_whole, require
from emomc.data.resident import ResidentBlocks
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.runtime.memory import memory_for
from emomc.runtime.trainers import ValidationTrainers

SMALLER_BATCHES = "give the library a lower one with emomc-pretrain --evaluation_batch_size, what is measured is kept"
"""What to do where the batches of an evaluation do not fit into memory."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a candidate did on a set of images."""

    correct: int
    """Images classified rightly among those seen."""
    seen: int
    """Images seen."""
    images: int
    """Images in the set."""

    def __post_init__(self) -> None:
        """Check the counts, which may come from a log.

        Raises:
            UserError: they are no whole numbers with correct <= seen <= images.
        """
        counts = (self.correct, self.seen, self.images)
        whole = all(is_whole(count, 0) for count in counts)
        require(whole and self.correct <= self.seen <= self.images, "correct <= seen <= images", counts)

    @property
    def complete(self) -> bool:
        """Whether every image was seen."""
        return self.seen == self.images

    @property
    def most_correct(self) -> int:
        """Images classified rightly if all that are left were."""
        return self.correct + self.images - self.seen

    @property
    def accuracy(self) -> float:
        """Fraction classified rightly, 0..1, or the most it can become while images are left."""
        return self.most_correct / self.images


class CandidateEvaluator:
    """Validates candidates on one device over images held in its memory."""

    def __init__(
        self,
        networks: CompressedNetworks,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        precision: str = "32-true",
    ) -> None:
        """Move the images to the device of the networks.

        Args:
            networks: the candidates.
            images: float, (n, channels, height, width), normalised.
            labels: int64, (n,).
            batch_size: images per forward pass; results are bit-identical for one batch size only.
            precision: Lightning's name of the arithmetic, such as ``32-true`` or ``bf16-mixed``.
        """
        self.networks = networks
        self.precision = precision
        self.batch_size = batch_size
        self.images = len(labels)
        self._blocks = ResidentBlocks(images.to(networks.device), labels.to(networks.device), batch_size)
        self._trainers = ValidationTrainers(networks.device, precision)
        self._module = CandidateClassifier(networks.network, networks.library.manifest.num_classes, batch_size)

    def evaluate(
        self,
        genotype: Genotype,
        *,
        begun: Evaluation | None = None,
        needed: int = 0,
    ) -> Evaluation:
        """Count the images that the candidate classifies rightly.

        Args:
            genotype: the candidate.
            begun: an earlier evaluation that was stopped; only the images it has not seen are run.
            needed: stop once fewer images than this can be classified rightly; 0 sees all images.

        Returns:
            The evaluation, complete unless it was stopped.

        Raises:
            UserError: the network gives scores that are not finite.
        """
        begun = begun or Evaluation(0, 0, self.images)
        self._blocks.begin(begun.seen, stoppable=needed > 0)
        self.networks.load(genotype)
        callbacks = [EarlyRejection(self._blocks, begun.most_correct - needed)] if needed else []
        with memory_for(f"evaluating batches of {self.batch_size} images", SMALLER_BATCHES):
            self._trainers.make(callbacks).validate(self._module, self._blocks, verbose=False)
        if not self._module.finite:
            raise UserError(
                f"expected finite class scores, found others at level {genotype.level} % with bits {genotype.bits}"
            )
        return Evaluation(begun.correct + self._module.correct, begun.seen + self._module.seen, self.images)


def tensor_digest(*tensors: Tensor) -> str:
    """Return the SHA-256 of tensors' shapes, types and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
