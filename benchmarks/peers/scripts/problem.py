"""What a peer's script is given, and what it writes; runs in the peer's environment, with torch and numpy alone.

    python run_TOOL.py FUNCTION PROBLEM OUTPUT

PROBLEM is a folder: ``problem.json``, the network's source ``networks.py``, its trained ``weights.pt`` and the images,
``SPLIT.npy`` with ``SPLIT_labels.npy``, but no labels of the test images. In the folder OUTPUT stand then, for each
compressed network, its logits and weights in an ``.npz`` file, and in ``result.json`` what they need to be decoded. A
result that was written is not computed again.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Layer:
    """A compressed layer."""

    weights: Tensor
    """As they are multiplied, (output channels, inputs per group, *kernel)."""
    bits: int
    """Of a code of a weight; 32: the weights are floats."""
    scales: int
    """Numbers of 4 bytes that the codes are multiplied with."""
    zero_points: int = 0
    """Numbers of 1 byte that are taken from the codes."""
    groups: int = 1
    """Of the convolution."""


@dataclass(frozen=True)
class Compressed:
    """A compressed network."""

    network: Callable[[Tensor], Tensor]
    layers: Mapping[str, Layer]
    """By the name of the layer in the dense network."""
    activation_bits: int | None
    """Of the inputs of the layers; None: floats."""
    activation_grids: int = 0
    """Scales and zero points of activations, pairs of them."""
    file_bytes: int | None = None
    """Of the tool's own file; None: it writes none with these weights."""
    note: str = ""
    """What else is worth to know."""


@dataclass
class Problem:
    """The network and the images that a tool is given."""

    folder: Path
    about: Settings = field(init=False)
    """``problem.json``."""

    def __post_init__(self) -> None:
        self.about = json.loads((self.folder / "problem.json").read_text(encoding="utf-8"))

    def network(self) -> nn.Module:
        """Return the trained network, in evaluation mode."""
        network = LeNet5() if self.about["network"] == "lenet5" else self._zoo_network()
        network.load_state_dict(torch.load(self.folder / "weights.pt", weights_only=True))
        return network.eval()

    def _zoo_network(self) -> nn.Module:
        spec = importlib.util.spec_from_file_location("networks", self.folder / "networks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["networks"] = module
        spec.loader.exec_module(module)
        network: nn.Module = module.NETWORKS[self.about["network"]](**self.about["network_args"])
        return network

    def images(self, split: str) -> Tensor:
        """Return the images of ``calibration``, ``train``, ``validation`` or ``test``, (n, c, h, w)."""
        return torch.from_numpy(np.load(self.folder / f"{split}.npy"))

    def labels(self, split: str) -> Tensor:
        """Return the labels of a split, (n,); there are none of the test images."""
        return torch.from_numpy(np.load(self.folder / f"{split}_labels.npy"))

    def batches(self, split: str, size: int, *, seed: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return (images, labels) in batches, in an order that the seed decides; None: as they are."""
        images, labels = self.images(split), self.labels(split)
        if seed is None:
            return list(zip(images.split(size), labels.split(size), strict=True))
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        return [(images[part], labels[part]) for part in order.split(size)]

    @property
    def weights(self) -> dict[str, Tensor]:
        """Layer -> its trained weights, for convolutions and linear layers, in the order of the network."""
        modules = self.network().named_modules()
        return {name: part.weight.detach() for name, part in modules if isinstance(part, (nn.Conv2d, nn.Linear))}

    def name_of(self, weights: Tensor, own: Mapping[str, Tensor] | None = None) -> str:
        """Return the layer whose trained weights are most alike; folding a norm may have scaled their channels.

        Args:
            weights: quantized.
            own: layer -> its weights before; None: the trained ones.
        """
        alike = {
            name: float(nn.functional.cosine_similarity(before.flatten(1), weights.flatten(1)).abs().mean())
            for name, before in (own or self.weights).items()
            if before.shape == weights.shape
        }
        return max(alike, key=alike.__getitem__)

    def accuracy(self, network: Callable[[Tensor], Tensor], split: str = "validation") -> float:
        """Return the share of images that a network classifies correctly, 0..1."""
        return float((logits(network, self.images(split)).argmax(1) == self.labels(split)).double().mean())


class LeNet5(nn.Module):
    """The project's LeNet-5 in the form that tools ask for: a module for each step, no check of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        self.conv3, self.relu3, self.flatten = nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()
        self.linear1, self.relu4, self.linear2 = nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool1(self.relu1(self.conv1(images)))
        maps = self.pool2(self.relu2(self.conv2(maps)))
        features = self.flatten(self.relu3(self.conv3(maps)))
        return self.linear2(self.relu4(self.linear1(features)))


@torch.no_grad()
def logits(network: Callable[[Tensor], Tensor], images: Tensor, size: int = 500) -> Tensor:
    """Return the logits of images, (n, classes)."""
    return torch.cat([network(batch) for batch in images.split(size)])


def run(
    functions: Sequence[Callable[..., Any]],
    read: Callable[[Problem, Any], Compressed | list[Compressed]],
    settings: Mapping[str, Sequence[Settings]],
) -> None:
    """Compress with each setting of the function that the command names, and write what comes out.

    Args:
        functions: what a user of the tool writes, by name: (problem, **setting) -> what ``read`` takes.
        read: makes it comparable; not what a user writes.
        settings: name of a function -> its settings, each of which makes one compressed network.
    """
    name, folder, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    (function,) = (function for function in functions if function.__name__ == name)
    problem, results = Problem(folder), []
    output.mkdir(parents=True, exist_ok=True)
    for setting in settings[name]:
        stem = "-".join([name, *(f"{key}-{value}" for key, value in setting.items())])
        kept = output / f"{stem}.json"
        if not kept.exists():
            torch.manual_seed(problem.about["seed"])
            began = time.monotonic()
            try:
                made = function(problem, **copy.deepcopy(setting))
                seconds = time.monotonic() - began
                found = read(problem, made)
                several = found if isinstance(found, list) else [found]
                about = _of(setting) | {"seconds": seconds / len(several)}
                parts = [_write(problem, one, output / f"{stem}-{i}.npz") | about for i, one in enumerate(several)]
            except Exception as error:
                if setting == settings[name][-1] and not results:
                    raise
                parts = [_of(setting) | {"failed": f"{type(error).__name__}: {error}"[:300]}]
            kept.write_text(json.dumps(parts), encoding="utf-8")
        results += json.loads(kept.read_text(encoding="utf-8"))
        print(results[-1], flush=True)
    (output / "result.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


def _of(setting: Settings) -> dict[str, Any]:
    return {"setting": ", ".join(f"{key} {value}" for key, value in setting.items())}


def _write(problem: Problem, made: Compressed, arrays: Path) -> dict[str, Any]:
    """Write the logits and weights of a compressed network, and return what is told of it."""
    values = {split: logits(made.network, problem.images(split)).float().numpy() for split in ("validation", "test")}
    values |= {f"weights of {name}": layer.weights.detach().float().numpy() for name, layer in made.layers.items()}
    np.savez(arrays, **values)
    layers = {
        name: {key: value for key, value in vars(layer).items() if key != "weights"}
        for name, layer in made.layers.items()
    }
    fields = {key: value for key, value in vars(made).items() if key not in ("network", "layers")}
    return {**fields, "layers": layers, "arrays": arrays.name}
