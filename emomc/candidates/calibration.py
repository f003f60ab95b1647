"""Measure the layer inputs of a library's levels on a fixed set of training images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from torch import Tensor

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluator import SMALLER_BATCHES
from emomc.candidates.genotype import Genotype
from emomc.common.run_folder import RunFolder
from emomc.compression.layer_inputs import measure_inputs
from emomc.compression.levels import LevelName
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.data.splits import load_some
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.networks.graph import NetworkGraph
from emomc.runtime.digests import tensor_digest
from emomc.runtime.memory import memory_for

IMAGES = 512
"""Number of training images used for calibration; all if there are fewer."""


def calibrate(
    library: Library,
    graph: NetworkGraph,
    data: pl.LightningDataModule,
    fabric: Fabric,
    levels: Iterable[LevelName],
    *,
    covariances: bool = False,
) -> LayerInputStore:
    """Return the layer inputs of some levels on training images, in the network before it is quantized.

    The first process measures each level once and stores it in ``calibration`` beside the library, in a folder named by
    a digest of the images, the device type and what is measured.

    Args:
        library: the library.
        graph: of the library's network.
        data: the data of the library.
        fabric: the device, and the processes that share the result.
        levels: the levels to measure.
        covariances: whether to measure how inputs vary together, too.
    """
    images, labels = load_some(data, "train", IMAGES)
    digest = tensor_digest(images, labels)
    return calibrate_on(library, graph, images, fabric, levels, digest=digest, covariances=covariances)


def calibrate_on(
    library: Library,
    graph: NetworkGraph,
    images: Tensor,
    fabric: Fabric,
    levels: Iterable[LevelName],
    *,
    digest: str,
    covariances: bool,
) -> LayerInputStore:
    """Return the layer inputs of some levels on given inputs of the network.

    Args:
        library: the library.
        graph: of the library's network.
        images: float, (n, ...).
        fabric: the device, and the processes that share the result.
        levels: the levels to measure.
        digest: of the images.
        covariances: whether to measure how inputs vary together, too.
    """
    device = fabric.device
    measured = f"{digest} {device.type}" + (" covariances" if covariances else "")
    digest = hashlib.sha256(measured.encode()).hexdigest()[:16]
    store = open_calibration(library, digest)
    missing = [level for level in levels if not store.has(level)] if fabric.is_global_zero else []
    if missing:
        networks = CompressedNetworks(library, graph, Quantizer(), device=device)
        batch_size = library.manifest.evaluation_batch_size
        batches = [
            part.contiguous(memory_format=networks.memory_format) for part in images.to(device).split(batch_size)
        ]
        for level in missing:
            whole = networks.of(level).as_network(Genotype(level, (UNCOMPRESSED_BITS,) * len(networks.layers)))
            with torch.no_grad(), memory_for(f"evaluating batches of {batch_size} images", SMALLER_BATCHES):
                store.write(level, measure_inputs(whole, batches, covariances=covariances))
    fabric.barrier()
    return store


def open_calibration(library: Library, digest: str) -> LayerInputStore:
    """Return the stored layer inputs of a library for the images and device with the given digest."""
    digests = {record.name: record.sha256 for record in library.manifest.levels}
    return LayerInputStore(RunFolder.of_library(library.path).calibration / digest, digests)
