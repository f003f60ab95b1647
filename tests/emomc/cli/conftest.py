"""Running the commands in this process, as a user would from a folder of their own."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search


class Ran(NamedTuple):
    """The result of a command."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """A picture of the front takes as long as the searches of these tests; those of the figure look at it."""
    with pytest.MonkeyPatch.context() as patch:
        for observer in ("front_writer", "tensorboard_front_logger"):
            patch.setattr(f"emomc.callbacks.search.{observer}.front_figure", lambda document: Figure((1, 1)))
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``emomc-NAME`` in an empty folder: ``run("search", "--library", path)``."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def command(name: str, *arguments: object) -> Ran:
        capsys.readouterr()
        main = importlib.import_module(f"emomc.cli.{name}").main
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            # --help and --version end the process themselves.
            status = end.code or 0
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return command


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """Return the names and content of all files below the test's folder."""

    def take() -> dict[str, bytes]:
        return {
            str(path.relative_to(tmp_path)): path.read_bytes() if path.is_file() else b""
            for path in sorted(tmp_path.rglob("*"))
        }

    return take


@pytest.fixture
def refused(run: Callable[..., Ran], snapshot: Callable[[], dict[str, bytes]]) -> Callable[..., None]:
    """Check that a command is refused in one line and changes nothing: ``refused("search", *arguments, words=...)``."""

    def check(name: str, *arguments: object, words: str) -> None:
        before = snapshot()
        ran = run(name, *arguments)
        assert ran.status == 2, ran
        lines = ran.err.splitlines()
        assert len(lines) == 1, ran.err
        assert lines[0].startswith(f"emomc-{name}: error: ")
        assert "Traceback" not in ran.err + ran.out
        assert re.search(words, lines[0]), lines[0]
        # One short sentence.
        assert len(lines[0]) < 700
        after = snapshot()
        # What holds a folder stays in it, and so does what was measured of the levels that are whole.
        new = [file for file in after if file not in before]
        assert all(file.endswith(".lock") or "calibration" in file for file in new), new
        assert {file: after[file] for file in before} == before

    return check


@pytest.fixture(scope="session")
def searched_once(shared_library, tmp_path_factory) -> Path:
    """The folder of a run with a finished search, whose rounding takes no time to learn; tests copy it."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    shutil.copytree(shared_library.path, folder / "library")
    config = SearchConfig(population_size=4, number_generations=1, max_bits=4, rounding="nearest")
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
    run_search(folder / "library", config, [FrontWriter()], run=RunOptions(name="s", fabric=fabric))
    return folder


@pytest.fixture
def searched(searched_once, tmp_path) -> Path:
    """A copy of the run for one test."""
    return Path(shutil.copytree(searched_once, tmp_path / "run"))
