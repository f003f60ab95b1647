"""All points as rows of one table, and what the pages show of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from benchmarks.common.tables import table
from benchmarks.peers.choice import BUDGETS, choice
from benchmarks.peers.tools import OUR_WAYS, OURS, PEERS
from benchmarks.peers.trials import Trial

Row = dict[str, Any]


def rows_of(trial: Trial, dense: Mapping[str, float], lines: int, version: str) -> list[Row]:
    """Return the points of a trial as rows.

    Args:
        trial: of one tool.
        dense: bytes and energy in mJ of the dense network.
        lines: of code that a user writes.
        version: of the tool.
    """
    rows = []
    for point in trial.points:
        energy = 100 * point.energy_mj / dense["energy_mj"]
        rows.append(
            {
                "network": trial.network,
                "seed": trial.seed,
                "tool": trial.tool,
                "setting": point.setting,
                "validation_accuracy": round(100 * point.validation_accuracy, 3),
                "test_accuracy": round(100 * point.test_accuracy, 3),
                "size_bytes": point.size_bytes,
                "size_percent": round(100 * point.size_bytes / dense["bytes"], 3),
                "file_bytes": "" if point.file_bytes is None else point.file_bytes,
                "energy_mj": f"{point.energy_mj:.6g}",
                "energy_percent": round(energy, 3),
                "mean_bits": round(point.mean_bits, 2),
                "kept_percent": round(100 * point.kept, 1),
                "activation_bits": point.activation_bits or "float",
                "seconds": "" if point.seconds is None else round(point.seconds, 1),
                "all_seconds": "" if trial.seconds is None else round(trial.seconds, 1),
                "lines": lines,
                "version": version,
                "date": trial.date,
            }
        )
    return rows


def tools_in(rows: Sequence[Row]) -> list[str]:
    """Return the tools of some rows, ours first."""
    found = {row["tool"] for row in rows}
    return [name for name in (*OUR_WAYS, *PEERS) if name in found]


def title_of(tool: str) -> str:
    """Return a tool's name for people."""
    return OUR_WAYS[tool].title if tool in OUR_WAYS else PEERS[tool].title


def accuracies_within(rows: Sequence[Row], tool: str, cost: str, budget: float) -> list[float]:
    """Return the test accuracy in percent of what a tool gives within a budget, one for each seed that has it."""
    own = [row for row in rows if row["tool"] == tool]
    chosen = [choice([row for row in own if row["seed"] == seed], cost, budget) for seed in seeds_in(own)]
    return [float(row["test_accuracy"]) for row in chosen if row is not None]


def seeds_in(rows: Sequence[Row]) -> list[str]:
    """Return the seeds of some rows, ascending."""
    return sorted({row["seed"] for row in rows}, key=int)


def accuracy_table(rows: Sequence[Row], budgets: Sequence[float] = BUDGETS) -> str:
    """Return tool by tool the mean test accuracy within each budget of bytes, the best of a column in bold."""
    tools, seeds = tools_in(rows), len(seeds_in(rows))
    found = {
        (tool, budget): accuracies_within(rows, tool, "size_percent", budget) for tool in tools for budget in budgets
    }
    means = {key: mean(values) for key, values in found.items() if len(values) == seeds}
    best = {
        budget: max((means[tool, budget] for tool in tools if (tool, budget) in means), default=0) for budget in budgets
    }
    body = []
    for tool in tools:
        own = [row for row in rows if row["tool"] == tool]
        cells = []
        for budget in budgets:
            if (tool, budget) in means:
                text = f"{means[tool, budget]:.2f}"
                cells.append(f"**{text}**" if text == f"{best[budget]:.2f}" else text)
            else:
                some = found[tool, budget]
                cells.append(f"{mean(some):.2f} ({len(some)} of {seeds})" if some else "-")
        body.append([title_of(tool), *cells, seconds_of(own), str(own[0]["lines"])])
    head = ["test accuracy, %, at most", *(f"{budget:g} %" for budget in budgets), "seconds", "lines"]
    return table(head, body)


def verdicts(
    rows: Sequence[Row], way: str = OURS, budgets: Sequence[float] = BUDGETS
) -> list[tuple[float, str, float]]:
    """Return for each budget of bytes the best other tool and by how many points of test accuracy ours is ahead of it.

    Each is compared on the seeds that it has, so that both have the same dense networks.

    Args:
        rows: of one network.
        way: which of ``OUR_WAYS`` is compared; budgets that it does not reach are left out.
        budgets: percent of the bytes in float32.
    """
    found = []
    for budget in budgets:
        leads = {}
        for tool in tools_in(rows):
            seeds = seeds_in([row for row in rows if row["tool"] == tool])
            same = [row for row in rows if row["seed"] in seeds]
            theirs, ours = (accuracies_within(same, name, "size_percent", budget) for name in (tool, way))
            if tool in PEERS and len(theirs) == len(ours) == len(seeds):
                leads[tool] = mean(ours) - mean(theirs)
        if leads:
            tool = min(leads, key=leads.__getitem__)
            found.append((budget, tool, leads[tool]))
    return found


def seconds_of(own: Sequence[Row]) -> str:
    """Return the seconds of one network of a tool, or of all of ours, which come together."""
    each = [float(row["seconds"]) for row in own if row["seconds"] != ""]
    if each:
        return f"{median(each):.0f}" if median(each) >= 10 else f"{median(each):.1f}"
    return f"{mean({row['seed']: float(row['all_seconds']) for row in own}.values()):.0f} in all"


def points_table(rows: Sequence[Row]) -> str:
    """Return the points of the lowest seed; of ours those that are chosen within a budget of bytes or energy."""
    first = [row for row in rows if row["seed"] == seeds_in(rows)[0]]
    keys = ("size_percent", "validation_accuracy", "test_accuracy", "energy_percent", "mean_bits", "kept_percent")
    body = []
    for tool in tools_in(first):
        own = [row for row in first if row["tool"] == tool]
        if tool in OUR_WAYS:
            pairs = [(cost, budget) for cost in ("size_percent", "energy_percent") for budget in (*BUDGETS, 5.0, 4.5)]
            chosen = [choice(own, cost, budget) for cost, budget in pairs]
            own = [row for row in own if row in chosen]
        for row in sorted(own, key=lambda row: -float(row["size_percent"])):
            numbers = [f"{float(row[key]):.2f}" for key in keys]
            share = float(row["size_percent"]) / float(row["size_bytes"])
            file = "" if row["file_bytes"] == "" else f"{share * float(row['file_bytes']):.2f}"
            body.append([title_of(tool), row["setting"], *numbers, file, str(row["activation_bits"])])
    head = ["tool", "asked for", "bytes, %", "validation, %", "test, %", "energy, %", "bits", "kept, %"]
    return table([*head, "own file, %", "activations"], body)
