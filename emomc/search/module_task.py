"""Searching the library of a user's own task."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from emomc.callbacks.trainer.epoch_seed import EpochSeed
from emomc.callbacks.trainer.stop_training import StopTraining
from emomc.candidates.calibration import calibrate_on
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.finetuned_weights import FinetunedNetwork
from emomc.candidates.genotype import Genotype
from emomc.candidates.image_order import ranking_networks, stored_order
from emomc.candidates.module_evaluator import ModuleEvaluator, blocks_of
from emomc.common.errors import UserError, UserFact, UserNote
from emomc.common.replaced import replaced
from emomc.compression.levels import LevelName
from emomc.compression.quantizers import Quantizer
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.library.manifest import DENSE, TaskRecord
from emomc.library.network_sources import checked_library_graph
from emomc.lightning_modules.quantized_classifier import quantize_in_training, quantized_weights, rest_of
from emomc.networks.graph import NetworkGraph
from emomc.runtime.digests import tensor_digest
from emomc.runtime.trainers import quiet_trainer
from emomc.search.config import Finetuning
from emomc.search.finetuning import trainable_network
from emomc.search.searched_task import SearchedTask
from emomc.search.state import Search
from emomc.tasks.own_process import in_own_process
from emomc.tasks.trial import training_inputs
from emomc.tasks.users_task import UsersTask, errors_of
from emomc.tasks.validation import TaskValidation, has_test_data

_SAME = 1e-4


class ModuleTask(SearchedTask):
    """A user's LightningModule, whose own validation says how good a network is."""

    def __init__(self, library: Library, task: UsersTask | None, device: torch.device, precision: str) -> None:
        """Take the module.

        Args:
            library: to search.
            task: that made it.
            device: of the evaluations.
            precision: of the evaluations.

        Raises:
            UserError: there is no task.
        """
        record = library.manifest.task
        if task is None or record is None:
            raise UserError(
                f"expected --module {library.manifest.network}, whose validation measures candidates, found no --module"
            )
        self._library = library
        self._task = task
        self._record: TaskRecord = record
        self._validation = TaskValidation(task, "validation", device, precision)
        self.bounds_are_known = record.mean_of_samples
        self.metric = library.manifest.metric()
        self.dataset = str(library.manifest.data["dataset"])
        self.images_sha256 = {}

    @property
    def has_test_data(self) -> bool:
        """Whether there are test data."""
        return has_test_data(self._task)

    def checked_graph(self, network: nn.Module) -> NetworkGraph:
        """Return the graph that candidates are made of, after comparing it with the library's network on noise."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(4, *self._library.manifest.input_shape, generator=generator)
        return checked_library_graph(self._library, network, noise)

    def calibrate(
        self, graph: NetworkGraph, fabric: Fabric, levels: Iterable[LevelName], *, covariances: bool
    ) -> LayerInputStore:
        """Return the layer inputs of some levels on what the network gets in training."""
        inputs = torch.cat(training_inputs(self._task, int(self._library.manifest.settings["seed"])))
        digest = tensor_digest(inputs)
        return calibrate_on(self._library, graph, inputs, fabric, levels, digest=digest, covariances=covariances)

    def evaluator(self, search: Search, graph: NetworkGraph, fabric: Fabric) -> ModuleEvaluator:
        """Return the evaluator on the validation data, the hardest batches first where the metric allows it."""
        networks, dense = search.cost_model.networks, uncompressed_genotype(self._library)
        if search.config.compile == "always":
            raise UserError("expected --compile auto or never for a LightningModule of yours, found always")
        networks.load(dense)
        with fabric.rank_zero_first(local=True):
            self._task.prepare_data()
        with self._task.with_network(networks.network):
            self._validation.run()
        batches = self._validation.batches
        search.images_sha256["validation"] = batches.digest()
        evaluator = ModuleEvaluator(networks, self._validation, self.metric, precision=search.config.precision)
        if self.bounds_are_known:
            blocks = blocks_of(range(len(batches.sizes)))
            evaluator = self._in_blocks(search, blocks)
            evaluator.check_blocks(dense)
            order = stored_order(self._library, batches.digest(), fabric, lambda: self._misses(graph, fabric))
            evaluator = self._in_blocks(search, blocks_of(order.tolist()))
        else:
            warnings.warn(
                f"Every candidate is evaluated on all {batches.samples} validation samples: only of a metric that is a "
                f"mean of values per sample (--mean_of_samples) is it known early that a candidate cannot survive.",
                UserFact,
                stacklevel=2,
            )
        search.baseline = evaluator.evaluate(dense)
        recorded = self._library.record(DENSE).metric if DENSE in self._library.levels else None
        if recorded is not None and abs(search.baseline.accuracy - self.metric.quality(recorded)) > _SAME:
            text = (
                f"{self.metric.name} of the dense network is {search.baseline.metric:g} here, and was {recorded:g} "
                f"when the library was made: the validation data or the module may be others"
            )
            warnings.warn(text, UserNote, stacklevel=2)
        return evaluator

    def conditions(self) -> dict[str, Any]:
        """Return the digest of the validation data, and the metric."""
        metric = self.metric
        named = {"name": metric.name, "mode": metric.mode, "low": metric.low, "high": metric.high}
        return {
            "images": self._validation.batches.digest(),
            "metric": {**named, "mean_of_samples": self.bounds_are_known},
        }

    def finetune(
        self,
        networks: CompressedNetworks,
        genotype: Genotype,
        settings: Finetuning,
        *,
        precision: str,
        seed: int,
        stopped: Callable[[], bool],
    ) -> FinetunedNetwork:
        """Fine-tune a candidate by the module's own ``training_step``, with AdamW and a cosine as for images."""
        networks = networks.of(genotype.level)
        network, fake = trainable_network(networks, genotype)
        quantize_in_training(network, fake)
        seeds = EpochSeed("finetuning", seed, genotype.level, *genotype.bits, *genotype.activation_bits)
        callbacks: Sequence[pl.Callback] = [seeds, StopTraining(stopped)]
        options = {"max_epochs": settings.epochs, "limit_val_batches": 0}
        trainer = quiet_trainer(networks.device, precision, callbacks, **options)
        task, data = self._task, copy.copy(self._task.data)
        with (
            task.with_network(network),
            in_own_process(task.module, data),
            _optimized_by(task.module, settings.learning_rate),
            torch.inference_mode(False),
            torch.enable_grad(),
            errors_of(f"{task.name} to fine-tune a candidate"),
        ):
            trainer.fit(task.module.train(), datamodule=data)
        network = network.to(networks.device)
        return FinetunedNetwork(quantized_weights(network, fake), rest_of(network, networks.level(genotype.level).rest))

    def test_evaluator(self, search: Search) -> ModuleEvaluator:
        """Return the evaluator on the test data, by the module's ``test_step``."""
        networks = search.cost_model.networks
        test = TaskValidation(self._task, "test", networks.device, search.config.precision)
        networks.load(uncompressed_genotype(self._library))
        with self._task.with_network(networks.network):
            test.run()
        search.images_sha256["test"] = test.batches.digest()
        return ModuleEvaluator(networks, test, self.metric, precision=search.config.precision)

    def _in_blocks(self, search: Search, blocks: Sequence[Sequence[int]]) -> ModuleEvaluator:
        networks, precision = search.cost_model.networks, search.config.precision
        return ModuleEvaluator(networks, self._validation, self.metric, precision=precision, blocks=blocks)

    def _misses(self, graph: NetworkGraph, fabric: Fabric) -> Tensor:
        """Return how bad the ranking networks are on each batch, (batches,)."""
        networks = CompressedNetworks(self._library, graph, Quantizer(), device=fabric.device)
        ranking = ModuleEvaluator(networks, self._validation, self.metric)
        genotypes = ranking_networks(networks)
        positions = range(len(self._validation.batches.sizes))
        return torch.tensor(
            [sum(1 - ranking.quality_of_batch(one, position) for one in genotypes) for position in positions]
        )


@contextlib.contextmanager
def _optimized_by(module: pl.LightningModule, learning_rate: float) -> Iterator[None]:
    """Give a module an optimizer for fine-tuning while the block runs."""

    def configure() -> OptimizerLRScheduler:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = AdamW(trained, learning_rate, weight_decay=0.0)
        steps = max(1, int(module.trainer.estimated_stepping_batches))
        schedule = CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    with replaced(module, "configure_optimizers", configure):
        yield
