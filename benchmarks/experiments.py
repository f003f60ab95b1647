"""What the benchmark scripts share: shipped settings, libraries, searches and what they took, words for a page."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.cli.command import shipped_configs
from emomc.common.files import read_json, sha256_of_file, write_json
from emomc.data.config import DataConfig
from emomc.fronts.front_file import read_front
from emomc.library.library import Library
from emomc.library.manifest import MANIFEST
from emomc.library.sources import build_data
from emomc.pretraining.config import PretrainingConfig
from emomc.search.config import SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Candidate, Search

WORK = "work.json"


def shipped_settings(config: str, section: str) -> dict[str, Any]:
    """Return the settings of one section, ``pretrain`` or ``search``, of a shipped configuration."""
    return dict(yaml.safe_load(shipped_configs()[config])[section])


def fields_in(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are fields of a dataclass."""
    return {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}


def stage_one_configs(values: Mapping[str, Any]) -> tuple[PretrainingConfig, DataConfig]:
    """Return what ``emomc-pretrain`` would make of settings by name; one seed is that of both."""
    return (
        PretrainingConfig(**fields_in(PretrainingConfig, values)),
        DataConfig(**fields_in(DataConfig, values)),
    )


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
    data_dir: str,
    accelerator: str,
    early_rejection: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a search, or take the one that was finished with these settings on this library.

    Returns:
        The content of front.json, and the search's work: ``asked``, ``measured`` and ``distinct`` candidates,
        ``images`` they were run on, ``seconds``, ``machine`` and ``date``.

    Raises:
        KeyboardInterrupt: the search was interrupted; the same call goes on from there.
    """
    folder = library.path.parent / "search" / name
    digest = sha256_of_file(library.path / MANIFEST)
    if (folder / WORK).exists() and (folder / "front.json").exists():
        front, work = read_front(folder), read_json(folder / WORK, "the work of a search")
        if front["finished"] and front["settings"] == _plain(config) and work["library_sha256"] == digest:
            return front, work
    recorder = _WorkRecorder(digest, accelerator)
    search = run_search(
        library,
        config,
        [FrontWriter(), recorder],
        run=RunOptions(
            name=name,
            data=build_data(DataConfig(**{**library.manifest.data, "data_dir": data_dir})),
            fabric=Fabric(accelerator=accelerator, devices=1),
            early_rejection=early_rejection,
        ),
    )
    if not search.finished:
        raise KeyboardInterrupt
    return read_front(folder), read_json(folder / WORK, "the work of a search")


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


def machine(accelerator: str = "cpu") -> str:
    """Return the kind of processor that an accelerator of Lightning's means here, and PyTorch's threads beside it."""
    threads = torch.get_num_threads()
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    kind = torch.cuda.get_device_name() if on_gpu else platform.machine()
    return f"{kind}, {threads} thread{'' if threads == 1 else 's'}"


def command() -> str:
    """Return the command that runs, with DIR for absolute paths, which mean nothing on another machine."""
    return shlex.join(["python", *(_without_path(word) for word in sys.argv)])


def _without_path(word: str) -> str:
    head, colon, path = word.rpartition(":")
    if word == sys.argv[0] or not Path(path).is_absolute():
        return word
    return f"{head}{colon}DIR"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same columns as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in escaped)
