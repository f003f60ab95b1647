"""The networks that toolchains are tried with: trained for a minute on digits, pruned and quantized."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.compression.quantizers import Quantizer
from emomc.data.config import DataConfig
from emomc.data.splits import load_some
from emomc.export.formats import ExportOptions, export_network
from emomc.export.loading import unpack_network
from emomc.export.onnx_targets import onnx_options
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph, library_network
from emomc.packed_file.network import PackedNetwork
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.launch import make_fabric

LEVEL = 50
"""Percent of the weights that remain."""
WEIGHT_BITS = (8, 4, 6)
"""Of the layers, in turn."""
CALIBRATION_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class TriedNetwork:
    """A network, its images and how long it is trained."""

    name: str
    title: str
    """On the page."""
    spec: str
    args: dict[str, Any]
    channels: int
    side: int
    """Of an image, in pixels."""
    epochs: int
    """Of the dense network."""


NETWORKS = {
    network.name: network
    for network in (
        TriedNetwork("lenet5", "LeNet-5", "lenet5", {}, 1, 32, 10),
        TriedNetwork("mobilenet_v2", "MobileNetV2", "torchvision.models:mobilenet_v2", {}, 3, 64, 4),
        TriedNetwork("resnet18", "ResNet-18 of 0.25 of its width", "resnet18", {"width": 0.25}, 3, 32, 6),
    )
}
"""Name -> network. MobileNetV2 is that of torchvision; the others are the project's."""


class CompressedNetwork:
    """A network of ``NETWORKS``, compressed, with its test images."""

    def __init__(self, tried: TriedNetwork, folder: Path, images: int = 100) -> None:
        """Train and prune it, or take what is in the folder already.

        Args:
            tried: the network.
            folder: of the libraries.
            images: how many test images are run, at most.
        """
        self.tried = tried
        # A grey image is shown to a network of colours in three equal channels.
        data = DataConfig(image_size=tried.side, channels=tried.channels, augment="none", batch_size=64)
        config = PretrainingConfig(
            network=tried.spec,
            network_args=tried.args,
            pre_train_epochs=tried.epochs,
            pre_prune_upper_bound=LEVEL,
            pre_prune_lower_bound=LEVEL,
            pre_prune_epochs=2,
        )
        self.library: Library = prepare_library(config, data, folder / tried.name, devices=Devices("cpu", 1))
        self.users_network: nn.Module | None = library_network(self.library, tried.spec)
        self._graph = library_graph(self.library, self.users_network)
        source = library_data(self.library)
        self.images, self.labels = load_some(source, "test", images)
        self.training_images: Tensor = load_some(source, "train", CALIBRATION_IMAGES)[0]
        """For tools that measure ranges themselves."""
        self._packed: dict[int | None, PackedNetwork] = {}
        self._inputs = calibrate(self.library, self._graph, source, make_fabric("cpu", 1, 1), [LEVEL])

    def packed(self, activation_bits: int | None) -> PackedNetwork:
        """Return the network with inputs of the layers in so many bits; None: they are not rounded."""
        if activation_bits not in self._packed:
            quantizer = Quantizer(per_channel=True, bias_correction=True, activation_bits=activation_bits)
            networks = CompressedNetworks(self.library, self._graph, quantizer, inputs=self._inputs)
            bits = tuple(itertools.islice(itertools.cycle(WEIGHT_BITS), len(networks.layers)))
            self._packed[activation_bits] = pack_candidate(networks, Genotype(LEVEL, bits))
        return self._packed[activation_bits]

    def write(self, path: Path, target: str, activation_bits: int | None) -> None:
        """Write the ONNX file of a target, as ``emomc-export`` does."""
        options = onnx_options(target, activation_bits=activation_bits or 16)
        packed = self.packed(activation_bits)
        export_network(path, packed, "onnx", options=ExportOptions(onnx=options), network=self.users_network)

    @torch.no_grad()
    def scores(self, activation_bits: int | None) -> Tensor:
        """Return what the search's own network gives for the test images, (images, classes)."""
        scores: Tensor = unpack_network(self.packed(activation_bits), self.users_network)(self.images)
        return scores
