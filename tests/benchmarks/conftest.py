from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_import_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scripts find their neighbours, as they do when they are run."""
    monkeypatch.syspath_prepend(FOLDER)
