"""The order of the validation images in evaluations: hardest first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluator import SMALLER_BATCHES
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.common.files import read_json, write_json
from emomc.common.schema import checked
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.data.held import HeldImages
from emomc.library.library import Library
from emomc.networks.graph import NetworkGraph
from emomc.runtime.memory import memory_for

ORDER_FILE = "image_order.json"

# Images are ranked by networks at this many levels, each with these bits in all layers.
_LEVELS = 8
_BITS = (3, 4, UNCOMPRESSED_BITS)


def load_image_order(library: Library, graph: NetworkGraph, images: HeldImages, digest: str, fabric: Fabric) -> Tensor:
    """Return the library's order of the validation images, computed once and stored beside its levels.

    Images that many networks of the library misclassify come first, so that a poor candidate is rejected early. Ties
    keep the given order. The accuracy over all images does not depend on the order.

    Args:
        library: the library.
        graph: of the library's network.
        images: the validation images.
        digest: of these images, as ``HeldImages.digest`` gives it.
        fabric: the device, and the processes that share the order.

    Returns:
        int64, (n,): positions of the images.
    """
    return stored_order(library, digest, fabric, lambda: _count_misses(library, graph, images, fabric.device))


def stored_order(library: Library, digest: str, fabric: Fabric, count_misses: Callable[[], Tensor]) -> Tensor:
    """Return a library's order of what candidates are evaluated on, counted by the first process unless it is stored.

    Args:
        library: the library.
        digest: of what is ordered.
        fabric: the processes that share the order.
        count_misses: returns how bad the ranking networks are on each, (n,).

    Returns:
        int64, (n,): positions, hardest first.
    """
    path = library.path / ORDER_FILE
    if fabric.is_global_zero and read_order(path, digest) is None:
        hardest_first = np.argsort(-count_misses().numpy(), kind="stable")
        write_json(path, {"images": digest, "order": hardest_first.tolist()})
    fabric.barrier()
    order = read_order(path, digest)
    if order is None:
        raise RuntimeError(f"expected the order of images in {path}, found none after writing it")
    return torch.tensor(order)


def read_order(path: Path, digest: str) -> list[int] | None:
    """Return the stored order; None if there is none for the images with this digest.

    Raises:
        UserError: the file holds something else.
    """
    if not path.exists():
        return None
    what = f"the order of the validation images in {path}, which may be deleted"
    found = checked(_StoredOrder, read_json(path, "the order of images"), what)
    if sorted(found.order) != list(range(len(found.order))):
        raise UserError(f"expected {what}, found another list")
    return found.order if found.images == digest else None


@dataclasses.dataclass(frozen=True)
class _StoredOrder:
    """The content of the file."""

    images: str
    """Digest of the images that were ordered."""
    order: list[int]
    """Positions of the images, hardest first."""


@torch.inference_mode()
def _count_misses(library: Library, graph: NetworkGraph, images: HeldImages, device: torch.device) -> Tensor:
    """Return how many of the ranking networks misclassify each image, (n,)."""
    networks = CompressedNetworks(library, graph, Quantizer(), device=device)
    batch_size = library.manifest.evaluation_batch_size
    misses = torch.zeros(len(images), dtype=torch.int64)
    parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    for genotype in ranking_networks(networks):
        folded = networks.of(genotype.level).load(genotype)
        with memory_for(f"evaluating batches of {batch_size} images", SMALLER_BATCHES):
            for part in parts:
                batch = images.floats(part.start, part.stop).to(device)
                answers = folded(batch.contiguous(memory_format=networks.memory_format)).argmax(1).cpu()
                misses[part] += answers != images.labels[part]
    return misses


def ranking_networks(networks: CompressedNetworks) -> list[Genotype]:
    """Return the candidates by which the order is found: some levels, each with few and with all bits."""
    levels = networks.library.levels
    ranking = dict.fromkeys(levels[round(i)] for i in np.linspace(0, len(levels) - 1, min(_LEVELS, len(levels))))
    return [Genotype(level, (bits,) * len(networks.layers)) for level in ranking for bits in _BITS]
