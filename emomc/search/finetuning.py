"""Fine-tuning the points of a front, their masks and bits fixed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.finetuned_weights import FOLDER, TunedNetwork, write_tuned
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.common.files import read_json, write_json
from emomc.common.versions import versions
from emomc.lightning_modules.quantized_classifier import FakeQuantizedWeight, QuantizedClassifier
from emomc.runtime.recipe import Recipe
from emomc.search.state import Search


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """How points are tuned."""

    epochs: int
    """Passes over the training images, for each point."""
    learning_rate: float = 1e-3
    """Of AdamW, falling to zero along a cosine."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of its range.
        """
        if self.epochs < 1:
            raise UserError(f"expected at least 1 epoch of fine-tuning, found {self.epochs}")
        if not 0 < self.learning_rate < 1:
            raise UserError(f"expected a learning rate of fine-tuning in 0..1, found {self.learning_rate}")


def finetune_front(
    search: Search,
    evaluator: CandidateEvaluator,
    data: pl.LightningDataModule,
    settings: Finetuning,
    conditions: Mapping[str, Any],
    fabric: Fabric,
    stopped: Callable[[], bool],
) -> bool:
    """Tune each point of the search's front and enter the results into the search.

    A tuned point is kept unless what it was dominates it. Points are shared among the processes; what is on disk
    already is not tuned again.

    Args:
        search: at its end.
        evaluator: over the validation images.
        data: that the library was made on.
        settings: how.
        conditions: what an evaluation depends on besides level and bits.
        fabric: the processes and this one's device.
        stopped: says, the same on every process, whether to leave the rest.

    Returns:
        False if it was stopped.
    """
    points = list(search.front)
    key = [dict(conditions), dataclasses.asdict(settings), search.config.seed, versions()]
    names = [_name(search, candidate.genotype, key) for candidate in points]
    folder = search.folder / FOLDER
    for first in range(0, len(points), fabric.world_size):
        if stopped():
            return False
        mine = first + fabric.global_rank
        if mine < len(points):
            _tune(points[mine].genotype, names[mine], folder, evaluator, data, settings, search.config.seed)
        fabric.barrier()
        for point, name in zip(points[first:], names[first : first + fabric.world_size], strict=False):
            evaluation = _read_record(folder / f"{name}.json")
            search.add_tuned(point, dataclasses.replace(point.genotype, tuned=name), evaluation)
    return True


def _name(search: Search, genotype: Genotype, key: list[Any]) -> str:
    """Return a name that says all that the tuned weights depend on."""
    weights = search.library.record(genotype.level).sha256
    text = json.dumps([weights, genotype.bits, *key], sort_keys=True)
    return f"{genotype.level:03d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _read_record(path: Path) -> Evaluation:
    found = read_json(path, "a fine-tuned point")
    try:
        return Evaluation(found["correct"], found["seen"], found["images"])
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"expected what a fine-tuned point does in {path}, found a wrong entry: {error}") from None


def _tune(
    genotype: Genotype,
    name: str,
    folder: Path,
    evaluator: CandidateEvaluator,
    data: pl.LightningDataModule,
    settings: Finetuning,
    seed: int,
) -> None:
    """Write a point's tuned weights, and then what they do on the validation images, unless that is there."""
    record = folder / f"{name}.json"
    if record.exists():
        return
    networks = evaluator.networks
    tuned = tune(networks, genotype, data, settings, precision=evaluator.precision, seed=seed)
    write_tuned(folder / f"{name}.safetensors", tuned)
    evaluation = evaluator.evaluate(dataclasses.replace(genotype, tuned=name))
    values = {"level": genotype.level, "bits": dict(zip(networks.layers, genotype.bits, strict=True))}
    write_json(record, {**values, **dataclasses.asdict(settings), **dataclasses.asdict(evaluation)})


def tune(
    networks: CompressedNetworks,
    genotype: Genotype,
    data: pl.LightningDataModule,
    settings: Finetuning,
    *,
    precision: str = "32-true",
    seed: int = 0,
) -> TunedNetwork:
    """Train a candidate's weights behind their rounding; start, masks and bits are the candidate's.

    Args:
        networks: the candidates.
        genotype: the candidate; not a tuned one.
        data: to train on.
        settings: how.
        precision: Lightning's name of the arithmetic.
        seed: of the augmentation, and of dropout where a network has any.
    """
    network, weights = networks.trainable(genotype)
    recipe = Recipe(settings.learning_rate, weight_decay=0.0, schedule="cosine")
    fake = {
        name: FakeQuantizedWeight(mask, start, networks.level(genotype.level).factors.get(name))
        for name, (mask, start) in weights.items()
    }
    module = QuantizedClassifier(network, networks.library.manifest.num_classes, recipe, fake)
    device = networks.device
    # What a search runs under may forbid gradients.
    with torch.inference_mode(False), torch.enable_grad():
        trainer = pl.Trainer(
            accelerator=device.type,
            devices=1 if device.type == "cpu" else [device.index or 0],
            precision=precision,  # type: ignore[arg-type]
            plugins=[LightningEnvironment()],
            max_epochs=settings.epochs,
            limit_val_batches=0,
            gradient_clip_val=1.0,
            callbacks=[EpochSeed("finetuning", seed, genotype.level, *genotype.bits)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # In training mode for Lightning, which warns otherwise; the module returns to eval mode before the first batch.
        trainer.fit(module.train(), datamodule=data)
    module = module.to(device)
    return TunedNetwork(module.quantized(), module.rest(networks.level(genotype.level).rest))
