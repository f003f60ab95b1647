"""Photographs through torchvision's own evaluation and through the product: the same class scores, image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.models import ResNet18_Weights, resnet18

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.compression.quantizers import Quantizer
from emomc.data.config import DataConfig
from emomc.data.splits import load_split
from emomc.library.data_sources import library_data
from emomc.library.network_sources import library_graph, library_network
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices


def photographs(folder: Path, count: int) -> list[Path]:
    """Cut pieces of many shapes out of real photographs; some are PNG files, some lie on their side."""
    random = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    paths = []
    for number in range(count):
        height, width = (int(side) for side in random.integers(90, 420, 2))
        source = sources[number % len(sources)]
        left, top = (
            int(random.integers(0, whole - part)) for whole, part in zip(source.size, (width, height), strict=True)
        )
        path = folder / f"{number:03d}.{'png' if number % 5 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        source.crop((left, top, left + width, top + height)).save(path)
        paths.append(path)
    return paths


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given weights:UserWarning")
def test_resnet18_on_200_photographs_gives_the_scores_of_torchvision(tmp_path):
    for part, count in (("train", 8), ("val", 4)):
        for name in ("a", "b"):
            photographs(tmp_path / "photos" / part / name, count)
    paths = [path for name in ("a", "b") for path in photographs(tmp_path / "photos" / "test" / name, 100)]
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    torch.manual_seed(0)
    network = resnet18(num_classes=2)
    with torch.no_grad():
        # Statistics of real images, not those of a network that has seen none.
        network.train()(torch.stack([transform(Image.open(path)) for path in paths[::10]]))
    network.eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    library = prepare_library(
        PretrainingConfig(
            network="torchvision.models:resnet18",
            weights=str(tmp_path / "weights.pt"),
            pre_prune_upper_bound=100,
            pre_prune_lower_bound=100,
        ),
        DataConfig(dataset=f"imagefolder:{tmp_path / 'photos'}", preset="imagenet"),
        tmp_path / "run",
        devices=Devices(accelerator="cpu", devices=1),
    )
    images, _ = load_split(library_data(library), "test")
    plain = library_network(library, "torchvision.models:resnet18")
    networks = CompressedNetworks(library, library_graph(library, plain), Quantizer(), device=torch.device("cpu"))
    candidate = networks.load(uncompressed_genotype(library))
    deviations = []
    with torch.no_grad():
        for path, image in zip(paths, images, strict=True):
            expected = network(transform(Image.open(path)).unsqueeze(0))
            deviations.append(float((candidate(image.unsqueeze(0)) - expected).abs().max()))
    assert len(deviations) == 200
    assert max(deviations) < 1e-4
