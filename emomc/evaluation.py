"""From a candidate to its accuracy, through a validation-only Trainer."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor

from emomc.callbacks.early_rejection import EarlyRejection
from emomc.compressed import CompressedNetworks
from emomc.errors import UserError
from emomc.genotype import Genotype
from emomc.lightning_modules.candidate import CandidateClassifier


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a candidate did on a set of images."""

    correct: int
    """Images classified rightly among those seen."""
    seen: int
    """Images seen."""
    images: int
    """Images in the set."""

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


class ResidentBatches:
    """Batches of a set of images that lies in memory on the device; a loader that can be told to stop."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        """Cut the images into batches once.

        Args:
            images: float, (n, channels, height, width), normalised.
            labels: int64, (n,).
            batch_size: images per batch; the last may have fewer.
        """
        batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        self._batches = [(part.contiguous(memory_format=torch.channels_last), label) for part, label in batches]
        self._first = 0
        self._stopped = False

    def __len__(self) -> int:
        return len(self._batches) - self._first

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._batches[self._first :]:
            if self._stopped:
                return
            yield batch

    def start_at(self, batch: int) -> None:
        """Let the next iteration begin with this batch, counted from 0."""
        self._first = batch
        self._stopped = False

    def stop(self) -> None:
        """End the iteration under way before its next batch."""
        self._stopped = True


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
        self._batches = ResidentBatches(images.to(networks.device), labels.to(networks.device), batch_size)
        self._module = CandidateClassifier(networks.network, networks.library.manifest.num_classes)

    def evaluate(self, genotype: Genotype, *, begun: Evaluation | None = None, needed: int = 0) -> Evaluation:
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
        self._batches.start_at(begun.seen // self.batch_size)
        self.networks.load(genotype)
        callbacks = [EarlyRejection(self._batches, begun.most_correct - needed)] if needed else []
        trainer = make_trainer(self.networks.device, self.precision, callbacks)
        trainer.validate(self._module, self._batches, verbose=False)
        if not self._module.finite:
            raise UserError(
                f"expected finite class scores, found others at level {genotype.level} % with bits {genotype.bits}"
            )
        return Evaluation(begun.correct + self._module.correct, begun.seen + self._module.seen, self.images)


def make_trainer(device: torch.device, precision: str, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Return a Trainer that validates on one device, alone whatever processes run beside it, and writes nothing."""
    return pl.Trainer(
        accelerator=device.type,
        devices=1 if device.type == "cpu" else [device.index or 0],
        precision=precision,  # type: ignore[arg-type]
        plugins=[LightningEnvironment()],
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def tensor_digest(*tensors: Tensor) -> str:
    """Return the SHA-256 of tensors' shapes, types and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
