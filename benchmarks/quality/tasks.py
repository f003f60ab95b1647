"""The fronts of the three examples of users' own tasks, each by one call of ``emomc.compress``.

    python -m benchmarks.quality.tasks --runs runs/tasks --output docs/tasks.md

The first point is exported as a packed file and as ONNX, and each is run by the module's own ``test_step``.
The tables stand between the marks of the page. What is in the folder already is not made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import emomc
from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import made_by, put_between_marks
from benchmarks.common.tables import table
from emomc.common.files import write_text
from emomc.common.metric import Mode
from emomc.common.user_code import load_object
from emomc.runtime.devices import Devices

EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"
MARK = "fronts, by python -m benchmarks.quality.tasks"
SEARCH = {"population_size": 8, "number_generations": 12}
ROWS = 6


@dataclasses.dataclass(frozen=True)
class Example:
    """One of the examples, with the settings of its README."""

    name: str
    """Of its file."""
    module: str
    monitor: str
    mode: Mode
    pretraining: Mapping[str, Any]
    task: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    search: Mapping[str, Any] = dataclasses.field(default_factory=dict)


LEVELS = {"pre_train_epochs": 10, "pre_prune_step": 20}
LOWER_LEVELS = {
    "pre_train_epochs": 20,
    "pre_prune_epochs": 5,
    "pre_prune_upper_bound": 60,
    "pre_prune_lower_bound": 6,
    "pre_prune_ratio": 0.6,
}
SHARES = {"metric_range": (0.0, 1.0), "mean_of_samples": True}
ALL = (
    Example("segmentation", "Segmenter", "val/iou", "max", {**LEVELS, "exclude_layers": ["head"]}, SHARES),
    Example("spikes", "Spotter", "val/ap", "max", LOWER_LEVELS, search={"objectives": ("accuracy", "energy", "size")}),
    Example("regression", "Regressor", "val/mae", "min", {**LEVELS, "pre_train_epochs": 60, "pre_prune_epochs": 10}),
)


def compressed(example: Example, runs: Path) -> emomc.CompressedTask:
    """Return what one call makes of an example."""
    module, data = (load_object(f"{EXAMPLES / example.name}.py:{name}", "a class") for name in (example.module, "Data"))
    torch.manual_seed(0)
    options = emomc.CompressOptions(
        folder=runs / example.name,
        pretraining=example.pretraining,
        search={**SEARCH, **example.search},
        task=example.task,
        devices=Devices(accelerator="cpu", devices=1),
    )
    return emomc.compress(module(), data(), example.monitor, example.mode, options=options)


def rows(found: emomc.CompressedTask) -> list[list[str]]:
    """Return the uncompressed network and points of the front from one end to the other."""
    base, points = found.front["baseline"], found.points
    count = min(ROWS, len(points))
    shown = [points[round(place * (len(points) - 1) / max(1, count - 1))] for place in range(count)]
    cells = [[_value(base, "validation"), _value(base, "test"), "", f"{base['size_kib']:.3g}"]]
    for point in shown:
        less = f"{base['energy_mj'] / point['energy_mj']:.1f}"
        cells.append([_value(point, "validation"), _value(point, "test"), less, f"{point['size_kib']:.3g}"])
    cells[0][0] += " (uncompressed)"
    return cells


def _value(point: Mapping[str, Any], split: str) -> str:
    value = point[f"{split}_metric"]
    return "" if value is None else f"{value:.4f}"


def section(example: Example, found: emomc.CompressedTask, read_back: Sequence[str]) -> str:
    """Return the table of an example and what its exported files gave."""
    head = (f"{example.name}, {example.monitor}", "on test data", "times less energy", "KiB")
    test = [line for line in read_back if " test " in line]
    return (
        f"{table(head, rows(found))}\n\n{len(found.points)} points. The first, as a packed file and as ONNX, run by "
        f"the module's own `test_step`: {'; '.join(test)}.\n"
    )


def main() -> None:
    """Make the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--output", type=Path, help="page whose marks get the tables, besides printing")
    arguments = parser.parse_args()
    sections = []
    for example in ALL:
        found = compressed(example, arguments.runs)
        folder = arguments.runs / example.name
        best = found.points[0]["index"]
        lines = [
            *found.export(folder / "best.emomc", index=best),
            *found.export(folder / "best.onnx", "onnx", index=best),
        ]
        sections.append(section(example, found, lines))
    candidates = SEARCH["population_size"] * (SEARCH["number_generations"] + 1)
    made = f"{made_by()}; seed 0, {candidates} candidates each.\n\n" + "\n".join(sections)
    print(made)
    if arguments.output is not None:
        page = arguments.output.read_text(encoding="utf-8")
        write_text(arguments.output, put_between_marks(page, MARK, made))


if __name__ == "__main__":
    main()
