"""Fine-tuning of the points of a front, with masks and bits fixed."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.callbacks.trainer.stop_training import StopTraining
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluation import Evaluation, Evaluator
from emomc.candidates.finetuned_weights import FinetunedNetwork, finetuned_path, write_finetuned
from emomc.candidates.genotype import Genotype
from emomc.common.files import read_json, write_json
from emomc.common.schema import checked
from emomc.common.versions import versions
from emomc.compression.levels import Level
from emomc.lightning_modules.candidate import Stopped
from emomc.lightning_modules.distillation import Teacher
from emomc.lightning_modules.quantized_classifier import FakeQuantizedWeight, QuantizedClassifier
from emomc.runtime.recipe import Recipe
from emomc.runtime.trainers import finetuning_trainer
from emomc.search.config import Finetuning
from emomc.search.processes import Processes
from emomc.search.promise import Promise, most_promising
from emomc.search.state import Candidate, Search

# Points that are chosen together; the next ones are chosen by what these have shown. The number of processes must not
# change which points are fine-tuned.
_ROUND = 4


class FrontFinetuning:
    """Fine-tunes points of a search and adds the results to it.

    A fine-tuned point is kept unless the original point dominates it. The processes share the points. A point whose
    result is already on disk is not fine-tuned again.
    """

    def __init__(
        self,
        search: Search,
        evaluator: Evaluator,
        finetune: Callable[..., FinetunedNetwork],
        settings: Finetuning,
        conditions: Mapping[str, Any],
        processes: Processes,
    ) -> None:
        """Set what is fine-tuned, and how.

        Args:
            search: after its last generation.
            evaluator: on the validation images.
            finetune: fine-tunes one candidate, as ``SearchedTask.finetune``.
            settings: epochs, learning rate and budget.
            conditions: what an evaluation depends on besides level and bits.
            processes: that share the points.
        """
        self.search = search
        self.evaluator = evaluator
        self.finetune = finetune
        self.settings = settings
        self.processes = processes
        # The budget decides which points are fine-tuned, not what becomes of them.
        of_a_point = dataclasses.asdict(dataclasses.replace(settings, budget=None))
        self._key = [dict(conditions), of_a_point, search.config.seed, versions()]

    def run(self, complete: Callable[[Sequence[Candidate]], bool]) -> bool:
        """Fine-tune every point of the front or, with a budget, the most promising candidates.

        Args:
            complete: evaluates candidates on all validation images; returns False if interrupted.

        Returns:
            False if a process was stopped.
        """
        if self.settings.budget is None:
            return self._finetune(list(self.search.front))
        promise, search = Promise(), self.search
        left = self.settings.budget // self.settings.epochs
        while left:
            done = [point.before for point in search.finetuned]
            points = most_promising(search, promise, done, min(left, _ROUND))
            if not points:
                return True
            if not complete(points) or not self._finetune(points):
                return False
            for point in search.finetuned[-len(points) :]:
                level = search.level_accuracy(point.before.genotype.level)
                promise.learn(level, point.before.accuracy, point.after.accuracy)
            left -= len(points)
        return True

    def _finetune(self, points: Sequence[Candidate]) -> bool:
        """Fine-tune points and add the results to the search; return False if a process was stopped."""
        search, processes = self.search, self.processes
        names = [_name(search, candidate.genotype, self._key) for candidate in points]
        folder = search.files.finetuned
        for first in range(0, len(points), processes.world_size):
            mine = first + processes.rank
            if mine < len(points):
                with contextlib.suppress(Stopped):
                    self._make(points[mine].genotype, folder / names[mine])
            # Every process waits here for all others.
            if processes.any_stopped():
                return False
            for point, name in zip(points[first:], names[first : first + processes.world_size], strict=False):
                evaluation = read_finetuned_point(folder / f"{name}.json")
                search.add_finetuned(point, dataclasses.replace(point.genotype, finetuned=name), evaluation)
        return True

    def _make(self, genotype: Genotype, path: Path) -> None:
        """Write a point's fine-tuned weights, then their validation result, unless that is already on disk.

        Args:
            genotype: of the point.
            path: of both files, without suffix.

        Raises:
            Stopped: this process was stopped.
        """
        record = path.with_name(f"{path.name}.json")
        if record.exists():
            return
        evaluator, stopped = self.evaluator, self.processes.stopped
        networks, seed = evaluator.networks, self.search.config.seed
        weights = self.finetune(
            networks, genotype, self.settings, precision=evaluator.precision, seed=seed, stopped=stopped
        )
        write_finetuned(finetuned_path(path.parent, path.name), weights)
        evaluation = evaluator.evaluate(dataclasses.replace(genotype, finetuned=path.name), stopped=stopped)
        settings = {"epochs": self.settings.epochs, "learning_rate": self.settings.learning_rate}
        values = {"level": genotype.level, "bits": dict(zip(networks.layers, genotype.bits, strict=True)), **settings}
        if genotype.activation_bits:
            values["activation_bits"] = dict(zip(networks.layers, genotype.activation_bits, strict=True))
        found = dataclasses.asdict(evaluation)
        if evaluation.metric is None:
            del found["metric"]
        write_json(record, {**values, **found})


def _name(search: Search, genotype: Genotype, key: list[Any]) -> str:
    """Return a name with a hash of everything that the fine-tuned weights depend on."""
    weights = search.library.record(genotype.level).sha256
    # Names that are older than bits of inputs by layer do not depend on them.
    inputs = [genotype.activation_bits] if genotype.activation_bits else []
    text = json.dumps([weights, genotype.bits, *inputs, *key], sort_keys=True)
    return f"{Level.of(genotype.level).slug}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_finetuned_point(path: Path) -> Evaluation:
    """Read the evaluation of a fine-tuned point on the validation images.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    return checked(Evaluation, read_json(path, "a fine-tuned point"), f"a fine-tuned point's evaluation in {path}")


def finetune(
    networks: CompressedNetworks,
    genotype: Genotype,
    data: pl.LightningDataModule,
    settings: Finetuning,
    *,
    precision: str = "32-true",
    seed: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> FinetunedNetwork:
    """Fine-tune a candidate by quantization-aware training, starting from its own weights; masks and bits stay fixed.

    Inputs of layers are rounded in training where they are in evaluations, to the same grids.

    Args:
        networks: builds the candidate's network.
        genotype: of the candidate, not fine-tuned before.
        data: to train on.
        settings: epochs and learning rate.
        precision: arithmetic, as Lightning names it.
        seed: of the augmentation, and of dropout if the network has any.
        stopped: asked before each batch.

    Raises:
        Stopped: ``stopped`` returned True.
    """
    whole, networks = networks, networks.of(genotype.level)
    network, fake = trainable_network(networks, genotype)
    recipe = Recipe(settings.learning_rate, weight_decay=0.0, schedule="cosine")
    teacher = None
    if settings.distillation:
        dense = copy.deepcopy(whole.load(uncompressed_genotype(whole.library)))
        teacher = Teacher(dense, settings.distillation)
    module = QuantizedClassifier(network, networks.library.manifest.num_classes, recipe, fake, teacher=teacher)
    device = networks.device
    # The caller may have disabled gradients.
    with torch.inference_mode(False), torch.enable_grad():
        seeds = EpochSeed("finetuning", seed, genotype.level, *genotype.bits, *genotype.activation_bits)
        trainer = finetuning_trainer(device, precision, [seeds, StopTraining(stopped)], epochs=settings.epochs)
        # Training mode avoids a warning of Lightning; the module returns to eval mode before the first batch.
        trainer.fit(module.train(), datamodule=_prepared(data))
    module = module.to(device)
    return FinetunedNetwork(module.quantized(), module.rest(networks.level(genotype.level).rest))


def trainable_network(
    networks: CompressedNetworks, genotype: Genotype
) -> tuple[nn.Module, dict[str, FakeQuantizedWeight]]:
    """Return a copy of a candidate's network for fine-tuning, and layer name -> quantizer of its weight."""
    network, weights = networks.trainable(genotype)
    factors = networks.level(genotype.level).factors
    return network, {
        name: FakeQuantizedWeight(networks.shapes[name], mask, start, factors.get(name))
        for name, (mask, start) in weights.items()
    }


def _prepared(data: pl.LightningDataModule) -> pl.LightningDataModule:
    """Return a copy that shares the images and has nothing to prepare.

    To prepare data, a Trainer waits for the Trainers of all processes; some processes may have no point to fine-tune.
    """
    copied = copy.copy(data)
    copied.prepare_data = types.MethodType(pl.LightningDataModule.prepare_data, copied)  # type: ignore[method-assign]
    return copied
