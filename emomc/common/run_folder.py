"""Paths of the files and folders of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from emomc.common.errors import UserError, shown

FRONT_FILE = "front.json"
LOG_FILE = "evaluations.jsonl"
CHECKPOINT_FILE = "last.ckpt"


@dataclasses.dataclass(frozen=True)
class SearchFolder:
    """The folder of one search."""

    path: Path

    @property
    def settings(self) -> Path:
        """The settings of the search, as JSON."""
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        """The evaluations, one JSON line each."""
        return self.path / LOG_FILE

    @property
    def front(self) -> Path:
        """The front as data."""
        return self.path / FRONT_FILE

    @property
    def front_table(self) -> Path:
        """The front as a table."""
        return self.path / "front.csv"

    @property
    def candidates_table(self) -> Path:
        """Every candidate as a table."""
        return self.path / "candidates.csv"

    @property
    def figure(self) -> Path:
        """The front as a picture."""
        return self.path / "front.png"

    @property
    def report(self) -> Path:
        """The front as a page."""
        return self.path / "report.html"

    @property
    def tensorboard(self) -> Path:
        """Folder of the search's TensorBoard log."""
        return self.path / "tensorboard"

    @property
    def finetuned(self) -> Path:
        """Folder of the weights of fine-tuned candidates."""
        return self.path / "tuned"

    @property
    def run(self) -> RunFolder:
        """The run that the search belongs to."""
        return RunFolder(self.path.parent.parent)

    def layers_table(self, index: int) -> Path:
        """Return the path of the table of the cost of each layer of one candidate."""
        return self.path / f"layers_{index}.csv"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of one run: a library, the logs and checkpoints of its training, and its searches."""

    path: Path

    @classmethod
    def of_library(cls, library: Path) -> RunFolder:
        """Return the run that a library's folder belongs to."""
        return cls(library.parent)

    @property
    def library(self) -> Path:
        """Folder of the manifest and the levels."""
        return self.path / "library"

    @property
    def library_lock(self) -> Path:
        """Lock that searches of the library share, and that whoever replaces the library has alone."""
        return self.path / ".library.lock"

    @property
    def logs(self) -> Path:
        """Folder of the TensorBoard logs of the training."""
        return self.path / "logs"

    @property
    def sensitivity_table(self) -> Path:
        """How accurate the dense network stays when one layer is compressed, as a table."""
        return self.path / "sensitivity.csv"

    @property
    def sensitivity_page(self) -> Path:
        """The same as a page."""
        return self.path / "sensitivity.html"

    @property
    def checkpoints(self) -> Path:
        """Folder of Lightning's checkpoints of unfinished stages."""
        return self.path / "checkpoints"

    @property
    def front_of_checkpoints(self) -> Path:
        """Folder of the checkpoints that are on the front of accuracy and density."""
        return self.checkpoints / "front"

    @property
    def state_of_front_of_checkpoints(self) -> Path:
        """The list of the checkpoints on that front."""
        return self.checkpoints / "front.json"

    @property
    def calibration(self) -> Path:
        """Folder of statistics of the layers' inputs on training images."""
        return self.path / "calibration"

    @property
    def searches(self) -> Path:
        """Folder with one folder per search."""
        return self.path / "search"

    def checkpoint(self, stage: str) -> Path:
        """Return the checkpoint of an unfinished stage, such as ``dense`` or ``level 075``."""
        return self.checkpoints / stage_slug(stage) / CHECKPOINT_FILE

    def has_checkpoints(self) -> bool:
        """Return whether a stage was started and is not finished."""
        return any(self.checkpoints.glob(f"*/{CHECKPOINT_FILE}"))

    def search(self, name: str) -> SearchFolder:
        """Return the folder of a search.

        Raises:
            UserError: the name cannot be the name of a folder.
        """
        if name in ("", ".", "..") or Path(name).name != name or not name.isprintable():
            raise UserError(f"expected the name of a folder, found {shown(name)}")
        return SearchFolder(self.searches / name)

    def search_logs(self) -> list[Path]:
        """Return the logs of all searches."""
        return sorted(self.searches.glob(f"*/{LOG_FILE}"))


def find_finished_search(folder: Path, name: str | None) -> SearchFolder:
    """Return the folder of a search that has a front.

    Args:
        folder: folder of a run or of a search.
        name: name of the search; needed if a run has several.

    Raises:
        UserError: there is no such search, or there are several and no name is given.
    """
    if name is None and (folder / FRONT_FILE).is_file():
        return SearchFolder(folder.resolve())
    searches = RunFolder(folder).searches
    found = sorted(file.parent for file in searches.glob(f"*/{FRONT_FILE}"))
    if name is not None:
        found = [search for search in found if search.name == name]
    if len(found) == 1:
        return SearchFolder(found[0].resolve())
    names = ", ".join(search.name for search in found) or "none"
    wanted = "a finished search" if name is None else f"a finished search named {name}"
    raise UserError(f"expected {wanted} in {searches}, or --search with its name, found {names}")


def stage_slug(stage: str) -> str:
    """Return the name of a training stage in the form used in paths."""
    return stage.replace(" ", "_")
