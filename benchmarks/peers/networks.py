"""The networks that are compressed, how they are trained, and the files that every peer is given of them."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.settings import shipped_settings, stage_one_configs
from emomc.common.files import atomic_write, write_json
from emomc.data.splits import load_some, load_split
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.networks import zoo
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices

CALIBRATION_IMAGES = 512
"""Training images for measuring ranges and rounding; as many as the project's own search takes."""

PROBLEM = "problem.json"

_DENSE = {"pre_prune_upper_bound": 100, "pre_prune_lower_bound": 100, "pre_prune_ratio": None}
_DENSE |= {"criterion": "layerwise", "pruning_cost": "both"}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, its images and how it is trained; what is not given is as in its shipped configuration."""

    name: str
    """That of the shipped configuration of network, images and training."""
    title: str
    training: Mapping[str, Any]
    """Settings of ``emomc-pretrain``, for the dense network and for our library."""
    levels: Mapping[str, Any]
    """Those for our library alone, which starts from the dense network."""
    savings: Mapping[str, str]
    """What a search trades for accuracy -> what the levels of its library save."""
    generations: int
    """Of each of our searches: 20 candidates each, 40 in the first."""
    images_per_epoch: float = 1.0
    """Share of the training images that an epoch of ours sees, chosen anew each time."""


_CIFAR10 = {"network_args": {"width": 0.25}, "pre_train_epochs": 75, "evaluation_batch_size": 500}

NETWORKS = {
    network.name: network
    for network in (
        Network(
            "lenet5_mnist",
            "LeNet-5 on MNIST",
            training={"evaluation_batch_size": 500},
            levels={},
            savings={"size": "weights", "energy": "macs"},
            generations=40,
        ),
        Network(
            "mobilenet_cifar10",
            "MobileNet of a quarter of its width on CIFAR-10 (JPEG)",
            training=_CIFAR10,
            levels={},
            savings={"size": "both", "energy": "both"},
            generations=20,
            images_per_epoch=0.4,
        ),
        Network(
            "resnet18_cifar10",
            "ResNet-18 of a quarter of its width on CIFAR-10 (JPEG)",
            training=_CIFAR10,
            levels={},
            savings={"size": "both", "energy": "both"},
            generations=20,
            images_per_epoch=0.25,
        ),
    )
}
"""Name -> network."""


class Trained:
    """A network of ``NETWORKS`` trained with a seed, in a folder; what is there already is not made again."""

    def __init__(self, network: Network, seed: int, arguments: argparse.Namespace) -> None:
        """Train the dense network.

        Args:
            network: of ``NETWORKS``.
            seed: of training and of the split of the images.
            arguments: ``folder`` of all runs, and ``dataset`` and ``data_dir`` as ``emomc-pretrain`` takes them.
        """
        self.network = network
        self.seed = seed
        self.folder: Path = arguments.folder / network.name / f"seed-{seed}"
        self._given = {"dataset": arguments.dataset, "data_dir": arguments.data_dir}
        self.dense = self._library("dense", _DENSE)
        self.weights = self.dense.path / self.dense.record(DENSE).file
        self.data = library_data(self.dense, data_dir=arguments.data_dir)

    def library(self, trade: str) -> Library:
        """Return our library for searches that trade so for accuracy, size or energy."""
        saved = self.network.savings[trade]
        settings = {**self.network.levels, "pruning_cost": saved, "weights": str(self.weights)}
        return self._library(self._folder_of(saved).name, settings)

    def _folder_of(self, saved: str) -> Path:
        return self.folder / f"levels-{saved}"

    def problem(self) -> Path:
        """Return the folder of what every peer is given; see ``scripts/problem.py``."""
        folder = self.folder / "problem"
        if not (folder / PROBLEM).exists():
            folder.mkdir(exist_ok=True)
            shutil.copyfile(str(zoo.__file__), folder / "networks.py")
            with atomic_write(folder / "weights.pt") as partial:
                torch.save(self.dense.load_state(DENSE), partial)
            for split in ("train", "validation", "test"):
                images, labels = load_split(self.data, split)
                _save(folder / f"{split}.npy", images)
                if split != "test":
                    _save(folder / f"{split}_labels.npy", labels)
            images, labels = load_some(self.data, "train", CALIBRATION_IMAGES)
            _save(folder / "calibration.npy", images)
            _save(folder / "calibration_labels.npy", labels)
            manifest = self.dense.manifest
            about = {
                "network": manifest.network,
                "network_args": dict(manifest.network_args),
                "seed": self.seed,
                # For those that search it.
                "library": str(self._folder_of(self.network.savings["size"]).absolute() / "library"),
                "data_dir": str(self._given["data_dir"]),
            }
            write_json(folder / PROBLEM, about)
        return folder

    def images(self, split: str) -> Tensor:
        """Return the images of a split as every peer gets them, (n, c, h, w)."""
        return torch.from_numpy(np.load(self.problem() / f"{split}.npy"))

    def labels(self, split: str) -> Tensor:
        """Return the labels of the validation or the test images, (n,)."""
        if split == "test":
            return load_split(self.data, "test")[1]
        return torch.from_numpy(np.load(self.problem() / f"{split}_labels.npy"))

    def _library(self, name: str, settings: Mapping[str, Any]) -> Library:
        values = {**shipped_settings(self.network.name, "pretrain"), **self.network.training, **settings}
        values |= {key: value for key, value in self._given.items() if value is not None}
        config, data = stage_one_configs({**values, "seed": self.seed})
        trainer = {"limit_train_batches": self.network.images_per_epoch}
        return prepare_library(config, data, self.folder / name, devices=Devices("cpu", 1, trainer=trainer))


def _save(path: Path, tensor: Tensor) -> None:
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.save(file, tensor.contiguous().numpy())
