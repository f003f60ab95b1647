"""Write the table of results from the tables of the paper's experiments.

    python -m benchmarks.paper.headline

Rewrites what stands in ``docs/results/README.md`` between the two marks of this module.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import put_between_marks
from benchmarks.common.tables import table
from benchmarks.paper.outcomes import ALLOWED_LOSS_POINTS
from emomc.common.files import write_text

MARK = "made by python -m benchmarks.paper.headline"
EXPERIMENTS = ("lenet5_mnist", "vgg16_cifar10", "mobilenet_cifar10")

Row = dict[str, str]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/README.md"))
    arguments = parser.parse_args()
    text = arguments.page.read_text(encoding="utf-8")
    write_text(arguments.page, put_between_marks(text, MARK, headline(arguments.results) + "\n"))


def headline(results: Path) -> str:
    """Return the table of every experiment whose results are in the folder."""
    files = [results / f"paper_{experiment}.csv" for experiment in EXPERIMENTS]
    rows = [line for file in files if file.exists() for line in _experiment(file)]
    if not rows:
        return "Nothing has been measured yet: `python -m benchmarks.paper` does."
    head = ["", "", "the paper's settings", "ours"]
    return f"""{table(head, rows)}

Means over seeds and dataflows or codings, by the paper's formulas. Hypervolume: of (error, cost / uncompressed) against
(1, 1), on test images. Times less: of the cheapest network that loses at most {ALLOWED_LOSS_POINTS:g} points of
validation accuracy against its own uncompressed one (32 bits, all weights). Budgets below `full` cut epochs; the
pages say whose, and by how much."""


def _experiment(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    arms = [[row for row in rows if row["arm"] == arm] for arm in ("reference", "emomc")]
    first = rows[0]
    name = f"[{first['title']}]({file.stem}.md), budget {first['budget']}"
    lines = [
        ["seeds", *(str(len({row["seed"] for row in arm})) for arm in arms)],
        ["epochs of training, all levels", *(_epochs(arm) for arm in arms)],
    ]
    for cost in ("energy", "size"):
        of_cost = [[row for row in arm if row["cost"] == cost] for arm in arms]
        lines.append([f"hypervolume, {cost}", *(_mean(arm, "hypervolume_test", "{:.4f}") for arm in of_cost)])
        lines.append(
            [f"times less {cost}", *(_mean(arm, "within_by_validation_improvement", "{:.1f}x") for arm in of_cost)]
        )
    return [[name if number == 0 else "", *line] for number, line in enumerate(lines)]


def _epochs(arm: Sequence[Row]) -> str:
    return f"{arm[0]['epochs_dense']} + {arm[0]['epochs_levels']}" if arm else "-"


def _mean(rows: Sequence[Row], column: str, form: str) -> str:
    """Return the mean of a column, and of how many rows where some have nothing in it."""
    values = [float(row[column]) for row in rows if row[column]]
    if not values:
        return "-"
    missing = f" ({len(values)} of {len(rows)})" if len(values) < len(rows) else ""
    return form.format(sum(values) / len(values)) + missing


if __name__ == "__main__":
    main()
