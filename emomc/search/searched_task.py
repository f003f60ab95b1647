"""What a search needs of a task: its data in memory, and evaluators of candidates on them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluation import Evaluator
from emomc.candidates.finetuned_weights import FinetunedNetwork
from emomc.candidates.genotype import Genotype
from emomc.common.metric import Metric
from emomc.compression.levels import LevelName
from emomc.library.layer_input_store import LayerInputStore
from emomc.networks.graph import NetworkGraph
from emomc.search.config import Finetuning
from emomc.search.state import Search


class SearchedTask(abc.ABC):
    """The task of a library, ready to be searched.

    There are two: classifying images, and a user's LightningModule. All that differs between them is here; the search
    knows candidates by their quality alone.
    """

    metric: Metric
    """By which candidates are compared."""
    dataset: str
    """Name of the data that candidates are measured on."""
    images_sha256: dict[str, str]
    """Split -> digest of its data, of the splits that were loaded."""

    bounds_are_known = True
    """Whether what is left of the data changes the quality within known bounds: then candidates are stopped early."""

    @abc.abstractmethod
    def checked_graph(self, network: nn.Module) -> NetworkGraph:
        """Return the graph that candidates are made of, after comparing it with the library's network."""

    @abc.abstractmethod
    def calibrate(
        self, graph: NetworkGraph, fabric: Fabric, levels: Iterable[LevelName], *, covariances: bool
    ) -> LayerInputStore:
        """Return the layer inputs of some levels on training data."""

    @abc.abstractmethod
    def evaluator(self, search: Search, graph: NetworkGraph, fabric: Fabric) -> Evaluator:
        """Return the evaluator on the validation data; the search's ``compiled`` and ``baseline`` are set."""

    @abc.abstractmethod
    def conditions(self) -> dict[str, Any]:
        """Return what an evaluation depends on besides the network, as JSON values; after ``evaluator``."""

    @abc.abstractmethod
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
        """Fine-tune a candidate, with masks and bits fixed."""

    @abc.abstractmethod
    def test_evaluator(self, search: Search) -> Evaluator:
        """Return the evaluator on the test data, which there must be; the search's ``images_sha256`` gets theirs."""

    @property
    @abc.abstractmethod
    def has_test_data(self) -> bool:
        """Whether there are test data."""
