"""Kill one of two processes at random moments, of both commands and launchers; nothing is lost, no process is left.

    python -m benchmarks.quality.lost_processes --output docs/results/reliability.md

After each kill all other processes must end within a minute, and every file that stands under its name must be whole.
The same command then goes on, until it is killed again or comes to its end; what it leaves is compared with what a run
leaves that was not disturbed.
"""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import put_between_marks
from benchmarks.common.tables import table
from benchmarks.common.two_processes import LAUNCHERS, TwoProcesses
from benchmarks.quality.reliability import SEARCH, TRAIN, check, check_whole, contents
from emomc.common.files import write_text

MARK = "lost processes"
END_S = 60.0
"""All others must have ended so many seconds after one was killed."""
WORK_S = 600.0
"""No run takes longer."""


def arguments_of(command: str, place: Path) -> list[str]:
    """Return the arguments of a command whose run is in a folder."""
    if command == "pretrain":
        devices = TRAIN.index("--devices")
        return [*TRAIN[:devices], *TRAIN[devices + 2 :], "--output", str(place)]
    return [*SEARCH, "--library", str(place / "library")]


def fresh(place: Path, library: Path | None) -> None:
    """Empty the folder of a run, but for the library of a search."""
    shutil.rmtree(place, ignore_errors=True)
    if library is not None:
        shutil.copytree(library, place / "library")


def outcome(place: Path) -> dict[str, bytes]:
    """Return what must not depend on kills.

    Several processes write the log in the order of their results, and by that order stop candidates early or not.
    """
    timed = ("evaluations.jsonl", "candidates.csv")
    return {name: content for name, content in contents(place).items() if not name.endswith(timed)}


def finish(command: str, place: Path, launcher: tuple[str, ...]) -> float:
    """Run a command to its end; return the seconds it took."""
    began = time.monotonic()
    run = TwoProcesses(command, arguments_of(command, place), launcher)
    said = run.end(WORK_S)
    check(run.process.returncode == 0, f"emomc-{command} ended with status {run.process.returncode}: {said}")
    return time.monotonic() - began


def kill_one(command: str, place: Path, launcher: tuple[str, ...], rank: int, seconds: float) -> float | None:
    """Kill one process some seconds after the start; return how long the others lived, None if all had ended before."""
    run = TwoProcesses(command, arguments_of(command, place), launcher)
    time.sleep(seconds)
    if run.process.poll() is not None:
        run.process.communicate()
        return None
    os.kill(run.rank(rank), signal.SIGKILL)
    killed = time.monotonic()
    said = run.end(END_S)
    check("Traceback" not in said or bool(launcher), f"emomc-{command} said: {said}")
    return time.monotonic() - killed


def row(command: str, launcher: str, rank: int, kills: int, moments: random.Random, folder: Path) -> list[str]:
    """Kill one rank of a command again and again; return the row on it."""
    place, words = folder / "run", LAUNCHERS[launcher]
    library = folder / "library" if command == "search" else None
    fresh(place, library)
    seconds = finish(command, place, words)
    expected = outcome(place)
    lived: list[float] = []
    while len(lived) < kills:
        fresh(place, library)
        while len(lived) < kills:
            # From the start of the processes to the end of the work.
            longest = kill_one(command, place, words, rank, moments.uniform(0.2, 0.95) * seconds)
            if longest is None:
                break
            lived.append(longest)
            check_whole(place)
        finish(command, place, words)
        found = outcome(place)
        differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        check(
            not differing, f"emomc-{command}, rank {rank}, {launcher}: after kills other bytes in {sorted(differing)}"
        )
    return [f"emomc-{command}", launcher, str(rank), str(len(lived)), f"{max(lived):.1f}", "equal"]


def report(kills: int, seed: int) -> str:
    """Return the section of the page."""
    began = time.monotonic()
    moments = random.Random(seed)
    cases = list(itertools.product(("pretrain", "search"), LAUNCHERS, (0, 1)))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finish("pretrain", folder / "run", ())
        shutil.copytree(folder / "run" / "library", folder / "library")
        for number, (command, launcher, rank) in enumerate(cases):
            share = kills // len(cases) + (number < kills % len(cases))
            rows.append(row(command, launcher, rank, share, moments, folder))
            print(*rows[-1], flush=True)
    head = ["command", "started", "rank killed", "kills", "others ended within, s", "bytes"]
    return f"""`{command_with(kills=kills, seed=seed)}`,
{datetime.date.today()}, {platform.machine()} with {os.cpu_count()} threads; torch {torch.__version__}, Python
{platform.python_version()}; {(time.monotonic() - began) / 60:.0f} minutes. LeNet-5 on digits.

One of two processes is killed (SIGKILL) at a random moment, from the start of the processes on; then the same command
goes on. No process was left behind. Compared are all files but the log of evaluations, which is in the order of the
results, and the table of candidates, where it says which were stopped early.

{table(head, rows)}
"""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=40, help="kills in all; at least 8")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--output", type=Path, default=None, help="markdown file with the two marks, besides printing")
    arguments = parser.parse_args()
    measured = report(arguments.kills, arguments.seed)
    print(measured)
    if arguments.output:
        write_text(arguments.output, put_between_marks(arguments.output.read_text(encoding="utf-8"), MARK, measured))


if __name__ == "__main__":
    main()
