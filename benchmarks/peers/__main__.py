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
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.common.command_line import argument_parser
from benchmarks.common.environments import Environment, environment_of
from benchmarks.common.figures import save_figure
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import csv_text
from benchmarks.peers.figure import tools_figure
from benchmarks.peers.networks import NETWORKS, Trained
from benchmarks.peers.ours import try_ours
from benchmarks.peers.page import page
from benchmarks.peers.points import Evaluator
from benchmarks.peers.table import Row, rows_of
from benchmarks.peers.tools import OUR_WAYS, PACKAGES, PEERS
from benchmarks.peers.trials import Trial, keep_trial, kept_trial, try_peer
from emomc.common.files import read_json, write_json, write_text
from emomc.runtime.notices import quiet_lightning

TOOLS = (*PEERS, *OUR_WAYS)

DENSE_NETWORK = "dense.json"
"""Bytes, energy and accuracy of a dense network."""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["lenet5_mnist"])
    parser.add_argument("--dataset", help="default: the network's; images of a folder as imagefolder:DIR")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of dense networks")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS, metavar="TOOL", help="all if not given")
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
    words = {name: " ".join(some).rstrip(";") + "." for name, some in dense.items()}
    publish(page(rows, trials, environments, words, f"{made_by()}; {machine}"), arguments.output)


def _environments(arguments: argparse.Namespace) -> dict[str, Environment]:
    folder = (arguments.environments or arguments.folder / "environments").absolute()
    found = {}
    for name in dict.fromkeys(PEERS[tool].environment for tool in arguments.tools if tool in PEERS):
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
    rows, trials, words = results
    folder = arguments.folder / name / f"seed-{seed}"
    missing = [tool for tool in arguments.tools if not (folder / f"{tool}.json").exists()]
    if not arguments.kept and (missing or not (folder / DENSE_NETWORK).exists()):
        _try(arguments, environments, about, missing)
    if not (folder / DENSE_NETWORK).exists():
        return
    dense = read_json(folder / DENSE_NETWORK, "a dense network")
    words.setdefault(
        name,
        [f"{dense['bytes']:,} bytes in float32, {dense['energy_mj']:.4g} mJ with weights of 32 bits. Dense networks:"],
    )
    words[name].append(
        f"seed {seed}, {100 * dense['validation_accuracy']:.2f} % of {dense['validation_images']:,} validation images;"
    )
    for tool in arguments.tools:
        kept = folder / f"{tool}.json"
        if kept.exists():
            trial = kept_trial(kept)
            ours = OUR_WAYS.get(tool)
            lines = PEERS[tool].lines if ours is None else len(ours.commands)
            rows += rows_of(trial, dense, lines, PEERS[tool].version if ours is None else version("emomc"))
            trials.append(trial)
        elif not arguments.kept:
            trials.append(Trial(tool, name, seed, "", refused=environments[PEERS[tool].environment].reason))


def _try(
    arguments: argparse.Namespace, environments: dict[str, Environment], about: tuple[str, int], tools: Sequence[str]
) -> None:
    """Try tools with one dense network and keep what comes out."""
    name, seed = about
    trained = Trained(NETWORKS[name], seed, arguments)
    evaluator = Evaluator(trained.dense.manifest.layers, trained.labels("validation"), trained.labels("test"))
    problem = trained.problem()
    dense = {"bytes": evaluator.dense_bytes, "energy_mj": evaluator.dense_energy_mj}
    dense |= {"validation_accuracy": trained.dense.dense_accuracy}
    write_json(trained.folder / DENSE_NETWORK, {**dense, "validation_images": len(trained.labels("validation"))})
    for tool in tools:
        if tool in OUR_WAYS:
            trial = try_ours(tool, trained, evaluator)
        else:
            peer = PEERS[tool]
            if environments[peer.environment].reason:
                continue
            if peer.needs_library:
                trained.library("size")
            trial = try_peer(peer, environments[peer.environment], problem, evaluator, about)
        keep_trial(trained.folder / f"{tool}.json", trial)
        print(name, seed, tool, len(trial.points), "networks", trial.refused, flush=True)


if __name__ == "__main__":
    main()
