"""Compare how fast the hypervolume grows with our settings and with the reference's, on one library.

    python -m benchmarks.quality.search_evaluations --library runs/lenet5-mnist/library --data_dir data

Both arms ask for the same number of candidates over the same library, with the same quantizer and cost model; the
reference arm has a random start and real-coded operators whose genes are rounded when decoded. Accuracies are shared
through the logs of the searches, so what one arm measured the other need not; evaluations are counted as asked for.
Writes ``docs/results/search_evaluations.md`` and ``.png``.
"""

from __future__ import annotations

import platform
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from benchmarks.common.command_line import argument_parser
from benchmarks.common.figures import OUR_COLOUR, REFERENCE_COLOUR, save_figure
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import table
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.search.config import SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Search

ARMS = {"reference settings": "real", "ours": "integer"}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist/library"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--generations", type=int, default=120)
    parser.add_argument("--output", type=Path, default=Path("docs/results/search_evaluations.md"))
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    data = library_data(library, data_dir=arguments.data_dir)
    curves = {
        arm: {seed: _curve(library, data, variation, seed, arguments.generations) for seed in arguments.seeds}
        for arm, variation in ARMS.items()
    }
    publish(_page(curves, library), arguments.output)
    save_figure(_figure(curves), arguments.output.with_suffix(".png"))


def _curve(library: Library, data, variation: str, seed: int, generations: int) -> list[tuple[int, float]]:
    """Return (candidates asked for, hypervolume) after each generation."""
    config = SearchConfig(variation=variation, seed=seed, number_generations=generations)
    tracker = _AskedTracker()
    run_search(library, config, [tracker], run=RunOptions(name=f"evaluations-{variation}-{seed}", data=data))
    print(f"{variation}, seed {seed}: {tracker.curve[-1][1]:.5f} after {tracker.curve[-1][0]}", flush=True)
    return tracker.curve


class _AskedTracker(SearchCallback):
    def __init__(self) -> None:
        self.curve: list[tuple[int, float]] = []

    def on_generation_end(self, search: Search) -> None:
        self.curve.append((search.tally.asked, search.history[-1].hypervolume))


def _reached(curve: list[tuple[int, float]], target: float) -> int | None:
    return next((asked for asked, volume in curve if volume >= target), None)


def _page(curves: dict, library: Library) -> str:
    reference, ours = (list(arm.values()) for arm in curves.values())
    mean = sum(curve[-1][1] for curve in reference) / len(reference)
    rows = []
    for seed, old, new in zip(curves["ours"], reference, ours, strict=True):
        reached = _reached(new, old[-1][1])
        share = "never" if reached is None else f"{reached} ({100 * reached / old[-1][0]:.0f} %)"
        rows.append([str(seed), f"{old[-1][1]:.5f}", f"{new[-1][1]:.5f}", share, str(_reached(new, mean))])
    head = ["seed", "reference's", "ours", "ours reaches the reference's after"]
    head.append(f"ours reaches its mean ({mean:.5f}) after")
    return f"""# Hypervolume over evaluations

{made_by()}; {platform.machine()},
torch {torch.__version__}. {library.manifest.network} on {library.manifest.data["dataset"]}, accuracy and energy (X|Y),
{reference[0][-1][0]} candidates asked for by each search. Hypervolume of (error, energy / uncompressed) against (1, 1).

{table(head, rows)}

![curves](search_evaluations.png)
"""


def _figure(curves: dict) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for (arm, runs), colour in zip(curves.items(), (REFERENCE_COLOUR, OUR_COLOUR), strict=True):
        for number, curve in enumerate(runs.values()):
            axes.plot(*zip(*curve, strict=True), color=colour, alpha=0.7, label=arm if number == 0 else None)
    axes.set_xlabel("candidates asked for")
    axes.set_ylabel("hypervolume")
    low = min(curve[len(curve) // 12][1] for runs in curves.values() for curve in runs.values())
    axes.set_ylim(bottom=low)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    main()
