"""Searching the library of an image classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from lightning_fabric import Fabric
from pytorch_lightning import LightningDataModule
from torch import nn

from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.finetuned_weights import FinetunedNetwork
from emomc.candidates.genotype import Genotype
from emomc.candidates.image_order import load_image_order
from emomc.common.errors import UserNote
from emomc.common.metric import ACCURACY
from emomc.compression.levels import LevelName
from emomc.data.held import HeldImages
from emomc.data.splits import Split, has_test_images, hold_split, load_some
from emomc.library.data_sources import check_images, is_data_of, measured_dataset
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.library.network_sources import checked_library_graph
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.networks.graph import NetworkGraph
from emomc.runtime.compilation import CompiledNetwork
from emomc.search.compilation import candidates_network
from emomc.search.config import Finetuning
from emomc.search.finetuning import finetune
from emomc.search.searched_task import SearchedTask
from emomc.search.state import Search

# The network as it was exported is compared with the user's module on this many images.
_CHECKED_IMAGES = 16


class ImageTask(SearchedTask):
    """Classification of images, counted image by image."""

    metric = ACCURACY

    def __init__(
        self, library: Library, data: LightningDataModule, *, named: str | None = None, trains: bool = False
    ) -> None:
        """Load the validation images.

        Args:
            library: to search.
            data: the images.
            named: their name, if the user gave one.
            trains: whether points will be fine-tuned.

        Raises:
            UserError: a split has no images, or they are no images for the library's network.
        """
        self._library = library
        self._data = data
        _check_splits(library, data, trains=trains)
        self._images = hold_split(data, "validation")
        self._digest = self._images.digest()
        self._digest_in_order = ""
        self._runner: nn.Module | None = None
        self.dataset = measured_dataset(library, data, named)
        self.images_sha256 = {"validation": self._digest}

    @property
    def has_test_data(self) -> bool:
        """Whether there are test images."""
        return has_test_images(self._data)

    def checked_graph(self, network: nn.Module) -> NetworkGraph:
        """Return the graph that candidates are made of, after comparing it with the library's network."""
        return checked_library_graph(self._library, network, self._images.floats(0, _CHECKED_IMAGES))

    def calibrate(
        self, graph: NetworkGraph, fabric: Fabric, levels: Iterable[LevelName], *, covariances: bool
    ) -> LayerInputStore:
        """Return the layer inputs of some levels on training images."""
        return calibrate(self._library, graph, self._data, fabric, levels, covariances=covariances)

    def evaluator(self, search: Search, graph: NetworkGraph, fabric: Fabric) -> CandidateEvaluator:
        """Return the evaluator on the validation images, hardest first."""
        order = load_image_order(self._library, graph, self._images, self._digest, fabric)
        images = self._images.ordered(order, search.cost_model.networks.memory_format)
        self._digest_in_order = images.digest()
        self._runner = candidates_network(search, images, fabric)
        search.compiled = isinstance(self._runner, CompiledNetwork)
        evaluator = self._evaluator_on(search, images)
        if not is_data_of(self._library, self.dataset, self._digest):
            search.baseline = evaluator.evaluate(uncompressed_genotype(self._library))
        return evaluator

    def conditions(self) -> dict[str, Any]:
        """Return the digest of the images in the order of evaluations."""
        return {"images": self._digest_in_order}

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
        """Fine-tune a candidate by the loss of an image classifier."""
        return finetune(networks, genotype, self._data, settings, precision=precision, seed=seed, stopped=stopped)

    def test_evaluator(self, search: Search) -> CandidateEvaluator:
        """Return the evaluator on the test images."""
        test = hold_split(self._data, "test")
        search.images_sha256["test"] = test.digest()
        return self._evaluator_on(search, test)

    def _evaluator_on(self, search: Search, images: HeldImages) -> CandidateEvaluator:
        return CandidateEvaluator(
            search.cost_model.networks,
            images.images,
            images.labels,
            batch_size=self._library.manifest.evaluation_batch_size,
            precision=search.config.precision,
            network=self._runner,
            prepare=images.prepare,
        )


def _check_splits(library: Library, data: LightningDataModule, *, trains: bool) -> None:
    """Load some images of every split that the search will need, and all that it keeps in memory.

    Raises:
        UserError: a split has no images, or they are no images for the library's network.
    """
    if isinstance(data, ImageDataModule):
        data.load_resident("validation", "test")
    splits: list[Split] = ["validation"]
    if trains:
        splits.append("train")
    if has_test_images(data):
        splits.append("test")
    else:
        warnings.warn("there are no test images: the front has validation accuracies alone", UserNote, stacklevel=2)
    for split in splits:
        check_images(library, data, *load_some(data, split, 1), split)
