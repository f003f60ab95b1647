"""What the recommended network of the demo loses in test accuracy, and what other picks of the same front do.

    python -m benchmarks.quality.recommendation --runs runs/recommendation --output docs/results/recommendation.md

Runs the two commands of ``make demo`` once for each seed and number of threads, as PyTorch's sums, and so the networks,
differ with the number of threads. What is in the folder already is not made again.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import table
from emomc.common.errors import UserError
from emomc.common.run_folder import find_finished_search
from emomc.fronts.front_file import read_front
from emomc.fronts.pick_rules import DEFAULT_PICK
from emomc.fronts.picks import pick_point

CONFIG = "lenet5_digits"
RULES = (DEFAULT_PICK, "within:1", "knee")
ALLOWED_POINTS = 1.0
COLUMNS = (
    *("threads", "seed", "", "times less energy", "times less size"),
    *("validation lost", "test lost", "test images lost"),
)

Fronts = Mapping[tuple[int, int], Mapping[str, Any]]
"""(threads, seed) -> front."""


def front_of(threads: int, seed: int, runs: Path) -> Mapping[str, Any]:
    """Make the demo with a number of threads and a seed, and return its front.

    Raises:
        UserError: a command failed.
    """
    run = runs / f"threads{threads}" / f"seed{seed}"
    common = ["--config", CONFIG, "--seed", str(seed)]
    for command, options in (
        ("emomc-pretrain", ["--output", str(run)]),
        ("emomc-search", ["--library", str(run / "library"), "--quiet", "true"]),
    ):
        done = subprocess.run(
            [str(Path(sys.executable).with_name(command)), *common, *options],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
        if done.returncode:
            raise UserError(f"expected the demo of seed {seed} to be made, found exit status {done.returncode}")
    return read_front(find_finished_search(run, None).front)


def row(front: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """Return what the point of a rule gains and loses against the uncompressed network."""
    base, picked = front["baseline"], pick_point(rule, front)
    point = front["points"][picked.position]
    return {
        "energy": base["energy_mj"] / point["energy_mj"],
        "size": base["size_kib"] / point["size_kib"],
        "validation": 100 * (base["validation_accuracy"] - point["validation_accuracy"]),
        "test": 100 * (base["test_accuracy"] - point["test_accuracy"]),
        "images": base["test_correct"] - point["test_correct"],
        "sure": picked.met,
    }


def cells(threads: int, seed: int, found: Mapping[str, Any]) -> list[str]:
    """Return a row of the table."""
    return [
        str(threads),
        str(seed),
        "sure" if found["sure"] else "the most accurate",
        f"{found['energy']:.1f}",
        f"{found['size']:.1f}",
        _signed(found["validation"]),
        _signed(found["test"]),
        f"{found['images']:+d}",
    ]


def summary(rule: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence on a rule, given its rows of all runs."""
    kept = sum(entry["test"] <= ALLOWED_POINTS for entry in found)
    most, energy = max(entry["test"] for entry in found), [entry["energy"] for entry in found]
    return (
        f"- `{rule}`: at most {ALLOWED_POINTS:g} point of test accuracy lost in {kept} of {len(found)} runs, the most "
        f"{most:.2f} points; {min(energy):.1f} to {max(energy):.1f} times less energy, "
        f"median {median(energy):.1f}."
    )


def _signed(points: float) -> str:
    """Return a number with its sign; 0 has none that differs from one rounding to the next."""
    return f"{round(points, 2) + 0.0:+.2f}"


def report(fronts: Fronts) -> str:
    """Return the page."""
    found = {rule: {run: row(front, rule) for run, front in fronts.items()} for rule in RULES}
    base = next(iter(fronts.values()))["baseline"]
    validation, test = base["validation_images"], base["test_images"]
    numbers = sorted({threads for threads, _ in fronts})
    counts = [f"{sum(run[0] == number for run in fronts)} with {number}" for number in numbers]
    of_rules = [summary(rule, list(rows.values())) for rule, rows in found.items()]
    return f"""# The recommended network of the demo

{made_by()} ({platform.machine()}).

`make demo` (LeNet-5 on scikit-learn's digits) whole, training, levels and search, in {len(fronts)} runs:
{" and ".join(counts)} thread{"s" if numbers[-1] > 1 else ""}. PyTorch sums in another order with another number of
threads, so that the same seed makes other networks. The default pick, `{DEFAULT_PICK}`, is the cheapest network that
loses at most one point of accuracy with a margin for chance, or the most accurate if none is sure
([the rule](../fronts.md#the-default-safe)); `within:1` is the same without a margin, and `knee` was the default before.
All of them see validation accuracies alone. The settings of the demo were chosen with runs of seeds 0 to 5 and 7 in
view, their test accuracies too: those runs are no fair trial of them, the others are.

{chr(10).join(of_rules)}

A point is {validation / 100:.2f} of the {validation} validation images, but {test / 100:.2f} of the {test} test images:
whether one point of test accuracy was lost can be told to {100 / test:.2f} points only, {int(test / 100)} images are
less than a point and {int(test / 100) + 1} are more. The test images are the same in every run.

What `{DEFAULT_PICK}` recommends:

{table(COLUMNS, [cells(*run, entry) for run, entry in found[DEFAULT_PICK].items()])}

Points of accuracy lost against the uncompressed network of the same run; a minus is a gain.
"""


def main() -> None:
    """Write the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="seeds, 0 or more")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads, 1 or more")
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    runs = [(threads, seed) for threads in arguments.threads for seed in arguments.seeds]
    publish(report({run: front_of(*run, arguments.runs) for run in runs}), arguments.output)


if __name__ == "__main__":
    main()
