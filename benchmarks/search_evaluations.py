"""Hypervolume over evaluations: ours against the settings of the paper's reference, on one library.

    python benchmarks/search_evaluations.py --library runs/lenet5-mnist/library --data_dir data --seeds 0 1 2 3 4

Both arms ask for the same number of candidates over the same library, with the same quantizer and cost model; the
reference arm has a random start and real-coded operators whose genes are rounded when decoded. Accuracies are shared
through the logs of the searches, so what one arm measured the other need not; evaluations are counted as asked for.
Writes ``docs/results/search_evaluations.md`` and ``.png``.
"""

import argparse
import datetime
import platform
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from emomc.callbacks.search.front_tracker import FrontTracker
from emomc.common.files import atomic_write, write_text
from emomc.data.config import DataConfig
from emomc.library.library import Library
from emomc.library.sources import build_data
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

ARMS = {"reference settings": "real", "ours": "integer"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist/library"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--generations", type=int, default=120)
    parser.add_argument("--output", type=Path, default=Path("docs/results/search_evaluations.md"))
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    data = build_data(DataConfig(**{**library.manifest.data, "data_dir": arguments.data_dir}))
    curves = {
        arm: {seed: _curve(library, data, variation, seed, arguments.generations) for seed in arguments.seeds}
        for arm, variation in ARMS.items()
    }
    write_text(arguments.output, _page(curves, library))
    with atomic_write(arguments.output.with_suffix(".png")) as partial:
        _figure(curves).savefig(partial, format="png", dpi=150, bbox_inches="tight")
    print(arguments.output.read_text(encoding="utf-8"))


def _curve(library: Library, data, variation: str, seed: int, generations: int) -> list[tuple[int, float]]:
    """Return (candidates asked for, hypervolume) after each generation."""
    config = SearchConfig(variation=variation, seed=seed, number_generations=generations)
    tracker = _AskedTracker()
    run_search(library, config, [tracker], run=RunOptions(name=f"evaluations-{variation}-{seed}", data=data))
    print(f"{variation}, seed {seed}: {tracker.curve[-1][1]:.5f} after {tracker.curve[-1][0]}", flush=True)
    return tracker.curve


class _AskedTracker(FrontTracker):
    def __init__(self) -> None:
        super().__init__()
        self.curve: list[tuple[int, float]] = []

    def show(self, search, statistics) -> None:
        self.curve.append((search.tally.asked, statistics.hypervolume))


def _reached(curve: list[tuple[int, float]], target: float) -> int | None:
    return next((asked for asked, volume in curve if volume >= target), None)


def _page(curves: dict, library: Library) -> str:
    reference, ours = (list(arm.values()) for arm in curves.values())
    mean = sum(curve[-1][1] for curve in reference) / len(reference)
    lines = []
    for seed, old, new in zip(curves["ours"], reference, ours, strict=True):
        reached = _reached(new, old[-1][1])
        share = "never" if reached is None else f"{reached} ({100 * reached / old[-1][0]:.0f} %)"
        lines.append(f"| {seed} | {old[-1][1]:.5f} | {new[-1][1]:.5f} | {share} | {_reached(new, mean)} |")
    return f"""# Hypervolume over evaluations

Made by `python {" ".join(sys.argv)}` on {datetime.date.today()}; {platform.machine()},
torch {torch.__version__}. {library.manifest.network} on {library.manifest.data["dataset"]}, accuracy and energy (X|Y),
{reference[0][-1][0]} candidates asked for by each search. Hypervolume of (error, energy / uncompressed) against (1, 1).

| seed | reference's | ours | ours reaches the reference's after | ours reaches its mean ({mean:.5f}) after |
|---|---|---|---|---|
{chr(10).join(lines)}

![curves](search_evaluations.png)
"""


def _figure(curves: dict):
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for (arm, runs), colour in zip(curves.items(), ("#d55e00", "#0072b2"), strict=True):
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
