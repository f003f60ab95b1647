"""EMOMC itself, on the same dense network: what its two commands do, and its fronts as points."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from benchmarks.common.recorded_search import recorded_search, stage_one_seconds
from benchmarks.peers.networks import Trained
from benchmarks.peers.points import Evaluator, Point
from benchmarks.peers.sizes import StoredLayer
from benchmarks.peers.tools import OURS, QUANTIZED
from benchmarks.peers.trials import Trial
from emomc.candidates.objectives import ObjectiveName
from emomc.networks.layers import LayerShape
from emomc.search.config import SearchConfig

TRADES: Mapping[str, tuple[ObjectiveName, ...]] = {"size": ("accuracy", "size"), "energy": ("accuracy", "energy")}
"""What is traded for accuracy -> objectives of the search."""

QUANTIZED_GENERATIONS = 10
"""Of a search of the dense network alone, whose space is small."""


def try_ours(way: str, trained: Trained, evaluator: Evaluator) -> Trial:
    """Make our libraries and search them, and measure the fronts.

    Args:
        way: a key of ``OUR_WAYS``.
        trained: the network.
        evaluator: of the network.
    """
    points, total = [], 0.0
    for trade, objectives in TRADES.items():
        library = trained.dense if way == QUANTIZED else trained.library(trade)
        config = SearchConfig(
            objectives=objectives,
            coding="best" if trade == "size" else "normal",
            number_generations=QUANTIZED_GENERATIONS if way == QUANTIZED else trained.network.generations,
            # A score may round differently in a compiled network, and not every machine has a compiler.
            compile="never",
            seed=trained.seed,
        )
        front, work = recorded_search(library, config, f"peers-{trade}", data=trained.data, accelerator="cpu")
        # The dense network is given: its training is no part of the work.
        trained_for = stage_one_seconds(library.path.parent) or 0.0 if way == OURS else 0.0
        total += work["seconds"] + trained_for
        points += [front_point(evaluator, library.manifest.layers, trade, point) for point in front["points"]]
    today = str(datetime.date.today())
    return Trial(way, trained.network.name, trained.seed, today, tuple(points), seconds=total)


def front_point(
    evaluator: Evaluator, layers: tuple[LayerShape, ...] | list[LayerShape], trade: str, point: Mapping[str, Any]
) -> Point:
    """Return a point of a front.json, with the bytes and the energy that are counted for all tools.

    Args:
        evaluator: of the network.
        layers: of the network.
        trade: what the search traded for accuracy.
        point: of the front.
    """
    stored = []
    for layer in layers:
        kept = round(point["density"][layer.name] * layer.weights)
        # One scale for each output channel.
        scales = layer.out_channels if point["bits"][layer.name] < 32 else 0
        stored.append(StoredLayer(layer.weights, kept, point["bits"][layer.name], layer.out_channels, scales))
    about = {
        "setting": f"for {trade}: level {point['level']} %, bits {' '.join(map(str, point['bits'].values()))}",
        # Not rounded.
        "activation_bits": None,
        "activation_grids": 0,
        "file_bytes": int(point["size_bytes"]),
        "note": "",
    }
    accuracies = (point["validation_accuracy"], point["test_accuracy"])
    return evaluator.measured(about, accuracies, list(layers), stored)
