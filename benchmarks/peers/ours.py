"""EMOMC itself, on the same dense network: its two commands' own functions, and its points in the form of the peers'."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.common.recorded_search import stage_one_seconds
from benchmarks.peers.choice import BUDGETS
from benchmarks.peers.networks import Trained
from benchmarks.peers.points import Array, Evaluator
from benchmarks.peers.sizes import StoredLayer, network_bytes
from benchmarks.peers.tools import OURS
from benchmarks.peers.trials import Trial
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.genotype import Genotype
from emomc.compression.quantization import dequantize
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Candidate, Search

COMMANDS = (
    "emomc-pretrain --config NETWORK --weights DENSE --output RUN",
    "emomc-search --library RUN/library --objectives accuracy size --coding best --activation_bits 8 --max_bits 8",
)
"""What a user writes for one trade."""

ACTIVATION_BITS = 8
"""As the peers."""

_TRADES: Mapping[str, Mapping[str, Any]] = {
    "size": {"objectives": ("accuracy", "size"), "coding": "best"},
    "energy": {"objectives": ("accuracy", "energy"), "coding": "best"},
}


def try_ours(trained: Trained, evaluator: Evaluator) -> Trial:
    """Make our libraries and search them, and measure the fronts and what a user with a budget would choose.

    Args:
        trained: the network.
        evaluator: of the network.
    """
    points, total = [], 0.0
    for trade, settings in _TRADES.items():
        library = trained.library(trade)
        generations = trained.network.generations
        config = SearchConfig(
            **settings,
            activation_bits=ACTIVATION_BITS,
            max_bits=8,
            number_generations=generations,
            seed=trained.seed,
        )
        began = time.monotonic()
        options = RunOptions(name=f"peers-{trade}", data=trained.data, fabric=Fabric(accelerator="cpu", devices=1))
        search = run_search(library, config, [FrontWriter()], run=options)
        if search.interrupted or not search.finished:
            raise KeyboardInterrupt
        total += time.monotonic() - began + (stage_one_seconds(library.path.parent) or 0.0)
        images = {split: trained.images(split) for split in ("validation", "test")}
        for candidate in chosen_candidates(search, evaluator):
            about, arrays = described(search, candidate, images)
            about["setting"] = f"for {trade}, {about['setting']}"
            points.append(evaluator.point(about, arrays))
    today = str(datetime.date.today())
    return Trial(OURS, trained.network.name, trained.seed, today, tuple(points), seconds=total)


def chosen_candidates(search: Search, evaluator: Evaluator) -> list[Candidate]:
    """Return the front, and for each budget of bytes the most accurate candidate on the validation images."""
    measured = [candidate for candidate in search.candidates if candidate.measured]
    sizes = {candidate.index: rule_bytes(search, candidate.genotype) for candidate in measured}
    chosen = {candidate.index: candidate for candidate in search.front}
    for share in BUDGETS:
        within = [one for one in measured if sizes[one.index] <= share / 100 * evaluator.dense_bytes]
        if within:
            best = max(within, key=lambda one: (one.accuracy, -sizes[one.index]))
            chosen[best.index] = best
    return list(chosen.values())


def rule_bytes(search: Search, genotype: Genotype) -> int:
    """Return the bytes of a candidate by the rule of ``sizes.py``."""
    density, bits = search.cost_model.density(genotype), search.cost_model.bits(genotype)
    layers = [
        StoredLayer(
            layer.weights,
            round(density[layer.name] * layer.weights),
            bits[layer.name],
            layer.out_channels,
            layer.out_channels,
        )
        for layer in search.library.manifest.layers
    ]
    return network_bytes(layers, grids=len(layers))


def described(
    search: Search, candidate: Candidate, images: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a candidate as ``scripts/problem.py`` describes what a peer made.

    Args:
        search: of the candidate.
        candidate: measured.
        images: split -> its images, (n, c, h, w).

    Returns:
        What is told of it, and its logits and weights.
    """
    networks, genotype = search.cost_model.networks, candidate.genotype
    network = networks.load(genotype)
    arrays = {split: _logits(network, images[split], networks.memory_format) for split in images}
    layers = {}
    for layer, bits in zip(search.library.manifest.layers, genotype.bits, strict=True):
        which = genotype.level, layer.name, bits, genotype.finetuned
        scale = networks.folded_scale(*which)
        arrays[f"weights of {layer.name}"] = dequantize(networks.quantized(*which).codes, scale).numpy()
        layers[layer.name] = {"bits": bits, "scales": scale.numel(), "zero_points": 0, "groups": layer.groups}
    about = {
        "setting": f"level {genotype.level} %, bits {' '.join(map(str, genotype.bits))}",
        "layers": layers,
        "activation_bits": search.config.activation_bits,
        "activation_grids": len(layers),
        "file_bytes": int(candidate.costs["size_bytes"]),
        "note": "",
    }
    return about, arrays


@torch.no_grad()
def _logits(network: torch.nn.Module, images: Tensor, memory_format: torch.memory_format) -> Array:
    batches: Iterator[Tensor] = iter(images.split(500))
    return torch.cat([network(batch.contiguous(memory_format=memory_format)) for batch in batches]).numpy()
