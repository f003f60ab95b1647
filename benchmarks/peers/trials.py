"""One tool with one network: it is run, measured, and what came out is kept."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

from benchmarks.common.environments import Environment, run_script
from benchmarks.peers.points import Evaluator, Point, Refused
from benchmarks.peers.tools import Peer
from emomc.common.files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a tool made of a network."""

    tool: str
    """A key of ``PEERS``, or ``OURS``."""
    network: str
    seed: int
    date: str
    points: tuple[Point, ...] = ()
    refused: str = ""
    """Why there are no points, or which settings failed; empty: none did."""
    seconds: float | None = None
    """Of all points together."""


def try_peer(
    peer: Peer, environment: Environment, problem: Path, evaluator: Evaluator, about: tuple[str, int]
) -> Trial:
    """Run a peer and measure what it writes.

    Args:
        peer: the tool.
        environment: where it is installed.
        problem: folder of what it is given; its results lie beside it.
        evaluator: of the network.
        about: name of the network, and its seed.
    """
    trial = Trial(peer.name, *about, str(datetime.date.today()))
    output = problem.parent / "peers" / peer.name
    arguments = [peer.function, problem.absolute(), output.absolute()]
    _, refused = run_script(environment.python, peer.script, arguments, 60 * peer.minutes)
    results = output / "result.json"
    if not results.exists():
        return dataclasses.replace(trial, refused=refused or "wrote no result")
    found = json.loads(results.read_text(encoding="utf-8"))
    try:
        points = tuple(evaluator.points(found, output))
    except (Refused, KeyError, ValueError, OSError) as error:
        return dataclasses.replace(trial, refused=f"{type(error).__name__}: {error}")
    failed = [f"{one['setting']}: {one['failed']}" for one in found if "failed" in one]
    seconds = sum(point.seconds or 0 for point in points)
    return dataclasses.replace(trial, points=points, refused="; ".join(failed), seconds=seconds)


def kept_trial(path: Path) -> Trial:
    """Return the trial that is kept in a file."""
    values = read_json(path, "a trial")
    return Trial(**{**values, "points": tuple(Point(**point) for point in values["points"])})


def keep_trial(path: Path, trial: Trial) -> None:
    """Write a trial to a file."""
    write_json(path, dataclasses.asdict(trial))
