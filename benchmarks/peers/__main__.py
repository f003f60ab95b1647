"""Compress the same trained networks with the tools that people use instead, and with ours, and compare.

    python -m benchmarks.peers --folder runs/peers --data_dir data --output docs/results/peers.md
    python -m benchmarks.peers --folder runs/peers --networks mobilenet_cifar10 --dataset imagefolder:data/cifar10-jpeg

An environment is made for each tool from the package index, in pinned versions; it shares torch with the one that runs
this (1 GB for all). Dense networks and our libraries are trained, every tool compresses each dense network, and one
evaluator measures what comes out. What is there already is not made again: FOLDER/NETWORK/seed-N holds the trained
networks and a JSON file for each tool. Delete a file to try its tool again. A tool that fails costs its row alone.
"""

from __future__ import annotations

import argparse
import os
import platform
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks.common.command_line import argument_parser
from benchmarks.common.environments import Environment, environment_of
from benchmarks.common.figures import save_figure
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import csv_text
from benchmarks.peers.figure import tools_figure
from benchmarks.peers.networks import NETWORKS, Trained
from benchmarks.peers.ours import COMMANDS, try_ours
from benchmarks.peers.page import page
from benchmarks.peers.points import Evaluator
from benchmarks.peers.table import Row, rows_of
from benchmarks.peers.tools import OURS, PACKAGES, PEERS
from benchmarks.peers.trials import Trial, kept_or, try_peer
from emomc.common.files import write_text
from emomc.runtime.notices import quiet_lightning


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["lenet5_mnist"])
    parser.add_argument("--dataset", help="default: the network's; images of a folder as imagefolder:DIR")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of dense networks")
    parser.add_argument("--tools", nargs="+", choices=[OURS, *PEERS], default=[*PEERS, OURS], help="all if not given")
    parser.add_argument("--folder", type=Path, default=Path("runs/peers"), help="of all runs")
    parser.add_argument(
        "--environments", type=Path, help="folder of the environments; FOLDER/environments if not given"
    )
    parser.add_argument("--kept", action="store_true", help="make the page of what was tried before, and try nothing")
    parser.add_argument("--output", type=Path, help="markdown file to write, with a table and figures beside it")
    arguments = parser.parse_args()
    environments = _environments(arguments)
    rows: list[Row] = []
    trials: list[Trial] = []
    dense: dict[str, list[str]] = {}
    with quiet_lightning():
        for name in arguments.networks:
            for seed in arguments.seeds:
                _run(arguments, environments, (name, seed), (rows, trials, dense))
    if arguments.output is None or not rows:
        return
    write_text(arguments.output.with_suffix(".csv"), csv_text(rows))
    for name in dense:
        own = [row for row in rows if row["network"] == name]
        figure = tools_figure(own, NETWORKS[name].title)
        save_figure(figure, arguments.output.with_name(f"{arguments.output.stem}_{name}.png"))
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch')}"
    )
    words = {name: " ".join(some) for name, some in dense.items()}
    publish(page(rows, trials, environments, words, f"{made_by()}; {machine}"), arguments.output)


def _environments(arguments: argparse.Namespace) -> dict[str, Environment]:
    folder = (arguments.environments or arguments.folder / "environments").absolute()
    found = {}
    for name in dict.fromkeys(PEERS[tool].environment for tool in arguments.tools if tool != OURS):
        found[name] = environment_of(folder / name, PACKAGES[name], install=not arguments.kept, with_own=True)
        print(f"{name}: {found[name].reason or found[name].versions}", flush=True)
    return found


def _run(
    arguments: argparse.Namespace,
    environments: dict[str, Environment],
    about: tuple[str, int],
    results: tuple[list[Row], list[Trial], dict[str, list[str]]],
) -> None:
    """Try every tool with one dense network, and add what comes out to the results."""
    name, seed = about
    rows, trials, dense = results
    folder = arguments.folder / name / f"seed-{seed}"
    if arguments.kept and not (folder / "dense").exists():
        return
    trained = Trained(NETWORKS[name], seed, arguments)
    evaluator = Evaluator(trained.dense.manifest.layers, trained.labels("validation"), trained.labels("test"))
    problem = trained.problem()
    costs = {"bytes": evaluator.dense_bytes, "energy_mj": evaluator.dense_energy_mj}
    validation = 100 * trained.dense.dense_accuracy
    dense.setdefault(
        name, [f"{costs['bytes']:,} bytes in float32, {costs['energy_mj']:.4g} mJ with weights of 32 bits."]
    )
    dense[name].append(
        f"Dense network of seed {seed}: {validation:.2f} % of {len(trained.labels('validation')):,} validation images."
    )
    for tool in arguments.tools:
        kept = folder / f"{tool}.json"
        if arguments.kept and not kept.exists():
            continue
        if tool == OURS:
            trial = kept_or(kept, partial(try_ours, trained, evaluator))
            lines, tool_version = len(COMMANDS), version("emomc")
        else:
            peer = PEERS[tool]
            environment = environments[peer.environment]
            if environment.reason and not kept.exists():
                trials.append(Trial(tool, name, seed, "", refused=environment.reason))
                continue
            if peer.needs_library and not kept.exists():
                trained.library("size")
            trial = kept_or(kept, partial(try_peer, peer, environment, problem, evaluator, about))
            lines, tool_version = peer.lines, peer.version
        trials.append(trial)
        rows += rows_of(trial, costs, lines, tool_version)
        print(name, seed, tool, len(trial.points), "networks", trial.refused, flush=True)


if __name__ == "__main__":
    main()
