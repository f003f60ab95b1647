"""Searches that record the work they took and are not run twice, and the time that stage I took."""

from __future__ import annotations

import dataclasses
import datetime
import time
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from pytorch_lightning import LightningDataModule
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.common.page import machine
from benchmarks.common.part_clock import TimeIsUp
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.common.files import read_json, sha256_of_file, write_json
from emomc.fronts.front_file import read_front
from emomc.library.library import Library
from emomc.library.manifest import MANIFEST
from emomc.search.config import Finetuning, SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Candidate, Search

WORK = "work.json"


def stage_one_seconds(run: Path) -> float | None:
    """Return the seconds that training a library took, read from its TensorBoard logs; None without logs.

    Each interruption began a new file of events, so the sum over files counts no pause. Starts and the last validation
    of each level are not in it.
    """
    seconds = []
    for file in run.glob("logs/*/events.out.tfevents.*"):
        times = [event.wall_time for event in EventFileLoader(str(file)).Load()]
        if times and file.parent.name != "library":
            seconds.append(max(times) - min(times))
    return sum(seconds) if seconds else None


def recorded_search(
    library: Library,
    config: SearchConfig,
    name: str,
    *,
    data: LightningDataModule,
    accelerator: str,
    early_rejection: bool = True,
    max_minutes: float | None = None,
    finetuning: Finetuning | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a search, or take the one that was finished with these settings on this library.

    Args:
        library: to search.
        config: the settings.
        name: of the search's folder.
        data: the library's; several searches of a library may share it.
        accelerator: in Lightning's terms.
        early_rejection: see ``RunOptions``.
        max_minutes: the search stops after this time; None: no limit.
        finetuning: of points, after the search; a search of the same name without it counts as another one.

    Returns:
        The content of front.json, and the search's work: ``asked``, ``measured`` and ``distinct`` candidates,
        ``images`` they were run on, ``seconds``, ``machine`` and ``date``.

    Raises:
        KeyboardInterrupt: the search was interrupted; the same call goes on from there.
        TimeIsUp: the search was stopped by ``max_minutes``; likewise.
    """
    folder = library.path.parent / "search" / name
    digest = sha256_of_file(library.path / MANIFEST)
    if (folder / WORK).exists() and (folder / "front.json").exists():
        front, work = read_front(folder), read_json(folder / WORK, "the work of a search")
        same = front["settings"] == _plain(config) and front["finetuning"] == _plain_or_none(finetuning)
        if front["finished"] and same and work["library_sha256"] == digest:
            return front, work
    recorder = _WorkRecorder(digest, accelerator)
    search = run_search(
        library,
        config,
        [FrontWriter(), recorder],
        run=RunOptions(
            name=name,
            data=data,
            fabric=Fabric(accelerator=accelerator, devices=1),
            early_rejection=early_rejection,
            max_minutes=max_minutes,
            finetuning=finetuning,
        ),
    )
    if search.interrupted:
        raise KeyboardInterrupt
    if not search.finished:
        raise TimeIsUp(f"{name} is not finished")
    return read_front(folder), read_json(folder / WORK, "the work of a search")


def _plain_or_none(finetuning: Finetuning | None) -> dict[str, Any] | None:
    return None if finetuning is None else dataclasses.asdict(finetuning)


def _plain(config: SearchConfig) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


class _WorkRecorder(SearchCallback):
    """Writes what a search took, over all the runs it needed, beside its log."""

    def __init__(self, library_sha256: str, accelerator: str) -> None:
        self._library_sha256 = library_sha256
        self._machine = machine(accelerator)
        self._began = self._written = time.monotonic()
        self._before: dict[str, Any] = {}

    def on_search_start(self, search: Search) -> None:
        path = search.folder / WORK
        work = read_json(path, "the work of a search") if path.exists() else {}
        # A search of another library in the same folder is not this one's beginning.
        self._before = work if work.get("library_sha256") == self._library_sha256 else {}

    def on_candidate_end(self, search: Search, candidate: Candidate) -> None:
        # A killed search loses no more than a second of what it did.
        if time.monotonic() - self._written > 1:
            self._write(search)

    def on_search_end(self, search: Search) -> None:
        self._write(search)

    def _write(self, search: Search) -> None:
        self._written = time.monotonic()
        tally = search.tally
        new = {"measured": tally.measured, "images": tally.images, "seconds": time.monotonic() - self._began}
        total = {key: self._before.get(key, 0) + value for key, value in new.items()}
        about = {"machine": self._machine, "date": str(datetime.date.today()), "library_sha256": self._library_sha256}
        counts = {"asked": tally.asked, "distinct": len(search.candidates)}
        write_json(search.folder / WORK, {**counts, **total, **about})
