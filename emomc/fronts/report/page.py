"""The page report.html: one self-contained file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from emomc.candidates.objectives import COSTS
from emomc.common.errors import UserError
from emomc.common.files import write_text
from emomc.common.intervals import wilson_interval
from emomc.compression.codings import CODINGS
from emomc.fronts.front_file import Front, Point, check_front, level_of, metric_of
from emomc.fronts.pick_rules import PickKind
from emomc.fronts.picks import PickedPoint, cost_keys, standard_picks
from emomc.hardware.dataflows import DATAFLOW_CHOICES, dataflow_label
from emomc.hardware.energy import ENERGY_PARTS

_MEMORY = {"ram_bytes": "RAM in C", "flash_bytes": "flash in C, code not counted"}
"""Entry of a point -> its name in the table of the point."""
_TITLES = {
    PickKind.SAFE: "Safely within one point of uncompressed",
    PickKind.KNEE: "Knee of the front",
    PickKind.MAX_ACCURACY: "Most accurate",
    PickKind.WITHIN: "Within one point of uncompressed",
    PickKind.AGGREGATE: "Most reward per {cost}",
}

_METRIC_TITLES = {
    PickKind.SAFE: "Within one percent of the range",
    PickKind.MAX_ACCURACY: "Best {name}",
    PickKind.WITHIN: "Within one percent of the range",
}
"""The same where another metric than the accuracy counts."""


def write_report(front: Front, path: Path) -> None:
    """Write the page of a front.

    Args:
        front: the content of a front.json (``emomc.fronts.front_file.read_front``).
        path: the file to write, such as ``report.html``.

    Raises:
        UserError: an entry of the front is wrong, or it has no point.
    """
    write_text(path, render_report(front))


def render_report(front: Front) -> str:
    """Return the page of a front as HTML; see ``write_report``."""
    check_front(front)
    if not front["points"]:
        raise UserError("expected a front with at least one point for a report, found an empty one")
    style = _asset("page.css")
    script = "".join(map(_asset, ("charts.js", "history.js", "layers.js", "page.js")))
    # Only these scripts and styles are allowed: text from the front cannot run, even if it were not escaped.
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    values = {
        "policy": policy,
        "title": html.escape(f"{front['network']} on {front['dataset']}: networks to choose from"),
        "style": style,
        "data": _inert_json(_page_data(front)),
        "script": script,
    }
    head, *rest = _asset("page.html").split("{{")
    # Split before filling in, so that braces in a value are not taken for a slot.
    pieces = [piece.partition("}}") for piece in rest]
    return head + "".join(values[slot] + tail for slot, _, tail in pieces)


def _page_data(front: Front) -> dict[str, Any]:
    picks = [
        {
            "rule": str(picked.pick),
            "name": _title(picked, front),
            "index": picked.index,
            "position": picked.position,
            "reason": picked.reason,
        }
        for picked in standard_picks(front)
    ]
    layers = [layer["name"] for layer in front["layers"]]
    points = [_compact_point(point, layers) for point in front["points"]]
    return {
        "front": {**front, "layers": layers, "points": points},
        "picks": picks,
        "costs": cost_keys(front),
        # The script takes all names from the registries.
        "labels": {
            "costs": {entry.key: {"name": entry.name, "unit": entry.unit} for entry in COSTS.values()},
            "memory": _MEMORY,
            "energy_parts": ENERGY_PARTS,
            "dataflows": {name: dataflow_label(name) for name in DATAFLOW_CHOICES},
            "codings": {name: coding.label for name, coding in CODINGS.items()},
        },
        "intervals": {
            "points": [_intervals(point) for point in front["points"]],
            "baseline": _intervals(front["baseline"]),
        },
    }


def _compact_point(point: Point, layers: list[str]) -> dict[str, Any]:
    """Replace maps from layer name by lists in layer order, to make the page smaller."""
    level = level_of(point)
    compact = dict(point) | {"level_label": level.label, "pattern": level.pattern}
    for key in ("bits", "density", "activation_bits"):
        if (values := point.get(key)) is not None:
            compact[key] = [values[layer] for layer in layers]
    if sizes := point.get("bytes_by_layer"):
        compact["bytes_by_layer"] = [sizes.get(layer, 0) for layer in layers]
    if costs := point.get("next_bit_cost"):
        compact["next_bit_cost"] = [costs.get(layer) for layer in layers]
    if energy := point.get("energy_by_layer"):
        compact["energy_by_layer"] = [
            [float(f"{energy.get(layer, {}).get(part, 0.0):.4g}") for part in ENERGY_PARTS] for layer in layers
        ]
    return compact


def _title(picked: PickedPoint, front: Front) -> str:
    pick, metric = picked.pick, metric_of(front)
    if not metric.percent and pick.kind in _METRIC_TITLES:
        return _METRIC_TITLES[pick.kind].format(name=metric.name)
    if not picked.met:
        return "Most accurate: none is safely within one point"
    if pick.kind is PickKind.BUDGET:
        return f"A tenth of the {COSTS[pick.limits[0].cost].name}"
    costs = cost_keys(front)
    return _TITLES[pick.kind].format(cost=COSTS[costs[0]].name if costs else "cost")


def _intervals(entry: Any) -> dict[str, list[float] | None]:
    """Return the 95 % confidence interval of each accuracy; None if the counts are unknown."""
    found: dict[str, list[float] | None] = {}
    for kind in ("validation", "test"):
        images, accuracy = entry.get(f"{kind}_images"), entry.get(f"{kind}_accuracy")
        correct = entry.get(f"{kind}_correct")
        if entry.get(f"{kind}_metric") is not None:
            images = None
        if correct is None and images and accuracy is not None:
            correct = round(accuracy * images)
        found[kind] = list(wilson_interval(correct, images)) if images and correct is not None else None
    return found


def _asset(name: str) -> str:
    return resources.files("emomc.fronts.report").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _rounded(value: Any) -> Any:
    """Round every number to nine significant digits, to make the page smaller."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _inert_json(value: Any) -> str:
    """Return JSON that is safe inside HTML: ``<``, ``>`` and ``&`` are escaped."""
    text = json.dumps(_rounded(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
