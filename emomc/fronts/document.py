"""Creates the content of front.json from a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from emomc.candidates.c_memory import needs_entries
from emomc.candidates.cost_model import RAM_COLUMN, uncompressed_genotype
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.finetuned_weights import finetuned_path
from emomc.candidates.genotype import Genotype
from emomc.common.files import sha256_of_file
from emomc.common.intervals import wilson_interval
from emomc.common.metric import ACCURACY
from emomc.common.versions import versions
from emomc.compression.levels import UNSTRUCTURED, Level
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.fronts.front_file import FRONT_FORMAT_VERSION
from emomc.hardware.energy import ENERGY_PARTS, EnergyBreakdown
from emomc.library.manifest import Manifest
from emomc.packed_file.layout import VERSION
from emomc.search.state import Candidate, Search

WHOLE_COSTS = ("size_bytes", RAM_COLUMN)
"""Costs that are whole numbers. Cycles are an expected value, as steps are skipped with some probability."""


def front_document(search: Search) -> dict[str, Any]:
    """Return the content of front.json, as ``docs/fronts.md`` describes it.

    Args:
        search: at any moment.
    """
    manifest, config, model = search.library.manifest, search.config, search.cost_model
    front = search.front
    genotypes = [candidate.genotype for candidate in front]
    energy = model.energy_by_layer(genotypes) if front else None
    stored = model.bytes_by_layer(genotypes) if front else None
    names = [layer.name for layer in manifest.layers]
    points = []
    for row, candidate in enumerate(front):
        point = _point(search, candidate)
        if energy is not None:
            point |= _spent(energy, row, names)
        if stored is not None:
            point["bytes_by_layer"] = {name: round(float(stored[row, column])) for column, name in enumerate(names)}
        if (expected := candidate.next_bit_costs) is not None:
            layers = zip(search.space.layers, expected, strict=True)
            point["next_bit_cost"] = {name: None if math.isnan(cost) else cost for name, cost in layers}
        if config.quantization.rounds_inputs and search.inputs:
            seen = search.inputs.level(candidate.genotype.level)
            point["input_ranges"] = {name: list(seen[name].range) for name in names if name in seen}
        points.append(point)
    dense = search.dense_accuracy
    images = front[0].evaluation.images if front and front[0].evaluation else None
    # The library stores the accuracy, not the count: rounding restores the count.
    baseline = None if images is None else Evaluation(round(dense * images), images, images)
    if search.baseline is not None and search.baseline.metric is not None:
        baseline = search.baseline
    return {
        "format_version": FRONT_FORMAT_VERSION,
        "settings": {name: _plain(value) for name, value in dataclasses.asdict(config).items()},
        "finetuning": dataclasses.asdict(search.finetuning) if search.finetuning else None,
        "objectives": list(config.objectives),
        "network": manifest.network,
        "dataset": search.dataset,
        "images_sha256": dict(search.images_sha256),
        "preprocessing": _preprocessing(manifest),
        "hardware": model.hardware.name,
        "hardware_description": model.hardware.to_dict()["hardware"],
        "dataflow": config.dataflow,
        "coding": config.coding,
        "accounting": config.accounting,
        "packed_file_version": VERSION,
        "calibration": search.inputs.digest if search.inputs else None,
        "integer_biases": config.quantization.rounds_inputs and config.quantization.integer_biases,
        "graph_sha256": manifest.graph_sha256,
        "compiled": search.compiled,
        "energy_unit": model.hardware.energy_label,
        "layers": [layer.to_dict() for layer in manifest.layers],
        "baseline": {
            "validation_accuracy": dense,
            "validation_correct": count_of(baseline),
            "validation_images": images,
            **interval("validation", baseline),
            **_metric("validation", baseline),
            **_test(search.baseline_test),
            **_costs(search, search.uncompressed),
            **needs_entries(model.c_needs(uncompressed_genotype(search.library))),
            "bits": UNCOMPRESSED_BITS,
        },
        "points": points,
        "tuned": [
            {"kept": pair.kept, "before": _point(search, pair.before), "after": _point(search, pair.after)}
            for pair in search.finetuned
        ],
        "history": [dataclasses.asdict(entry) for entry in search.history],
        "versions": versions(),
        "finished": search.finished,
        **({} if search.metric is ACCURACY else {"metric": dataclasses.asdict(search.metric)}),
    }


def _spent(energy: EnergyBreakdown, row: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the dataflow of a point and, where energies are known, what each part of each layer takes."""
    found: dict[str, Any] = {"dataflow": energy.dataflows[row]}
    if energy.unit:
        found["energy_by_layer"] = {
            name: {part: float(getattr(energy, part)[row, column]) for part in ENERGY_PARTS}
            for column, name in enumerate(names)
        }
    return found


def _preprocessing(manifest: Manifest) -> dict[str, Any]:
    """Return what was done to the images, as far as it is known: a user's data module may do anything."""
    given = ("preset", "image_size", "resize", "crop", "interpolation")
    known = {"input_shape": manifest.input_shape, "mean": manifest.mean, "std": manifest.std}
    return {name: _plain(value) for name, value in known.items()} | {name: manifest.data.get(name) for name in given}


def _point(search: Search, candidate: Candidate) -> dict[str, Any]:
    evaluation, level = candidate.evaluation, Level.of(candidate.genotype.level)
    inputs = search.cost_model.activation_bits(candidate.genotype)
    return {
        "index": candidate.index,
        "level": level.percent,
        **({} if level.pattern == UNSTRUCTURED else {"pattern": level.pattern}),
        "weights_sha256": _weights_sha256(search, candidate.genotype),
        "calibration_sha256": search.inputs.sha256(candidate.genotype.level) if search.inputs else None,
        "tuned": candidate.genotype.finetuned or None,
        "bits": search.cost_model.bits(candidate.genotype),
        **({} if inputs is None else {"activation_bits": inputs}),
        "density": search.cost_model.density(candidate.genotype),
        "validation_accuracy": candidate.accuracy,
        "validation_correct": count_of(evaluation),
        "validation_images": evaluation.images if evaluation else None,
        **interval("validation", evaluation),
        **_metric("validation", evaluation),
        **_test(candidate.test),
        **_costs(search, candidate.costs),
        **needs_entries(search.cost_model.c_needs(candidate.genotype)),
    }


def _weights_sha256(search: Search, genotype: Genotype) -> str:
    """Return the SHA-256 of the file that a candidate's weights come from: of its level, or its fine-tuned weights."""
    if genotype.finetuned:
        return sha256_of_file(finetuned_path(search.files.finetuned, genotype.finetuned))
    return search.library.record(genotype.level).sha256


def interval(kind: str, evaluation: Evaluation | None) -> dict[str, float | None]:
    """Return the ends of the 95 % confidence interval of an accuracy; None if not all images were evaluated.

    Args:
        kind: ``validation`` or ``test``; the entries are called ``KIND_accuracy_low`` and ``KIND_accuracy_high``.
        evaluation: on those images.
    """
    low, high = None, None
    if evaluation is not None and evaluation.complete and evaluation.metric is None:
        low, high = wilson_interval(int(evaluation.correct), evaluation.images)
    return {f"{kind}_accuracy_low": low, f"{kind}_accuracy_high": high}


def _test(evaluation: Evaluation | None) -> dict[str, Any]:
    return {
        "test_accuracy": evaluation.accuracy if evaluation else None,
        "test_correct": count_of(evaluation),
        "test_images": evaluation.images if evaluation else None,
        **interval("test", evaluation),
        **_metric("test", evaluation),
    }


def count_of(evaluation: Evaluation | None) -> int | None:
    """Return how many images were classified correctly; None if there is no evaluation, or of another metric."""
    return None if evaluation is None or evaluation.metric is not None else int(evaluation.correct)


def _metric(kind: str, evaluation: Evaluation | None) -> dict[str, float]:
    """Return the value of a user's metric; the accuracy beside it is its quality."""
    return {} if evaluation is None or evaluation.metric is None else {f"{kind}_metric": evaluation.metric}


def _costs(search: Search, costs: Mapping[str, float]) -> dict[str, float | int]:
    """Return the costs under their keys in front.json; ``energy_mj`` is in the unit that ``energy_unit`` names."""
    energy = search.cost_model.columns.get("energy")
    named: dict[str, float] = {("energy_mj" if name == energy else name): value for name, value in costs.items()}
    return {name: int(value) if name in WHOLE_COSTS else value for name, value in named.items()}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
