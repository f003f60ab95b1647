"""One finished search that callbacks can be shown again and again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emomc.common.run_folder import SearchFolder
from emomc.library.library import Library
from emomc.search.observer import SearchCallback
from emomc.search.state import Phase, Search


@pytest.fixture(scope="session")
def shared_search(
    copy_to: Callable[[Path], Library], search: Callable[..., Search], tmp_path_factory: pytest.TempPathFactory
) -> Search:
    """A search at its end; tests read it and never change it."""
    return search(copy_to(tmp_path_factory.mktemp("callbacks") / "run"), number_generations=4)


@pytest.fixture
def finished(shared_search: Search, tmp_path: Path) -> Search:
    """The finished search, in a folder of the test's own."""
    own = copy.copy(shared_search)
    own.files = SearchFolder(tmp_path / "search")
    own.folder.mkdir()
    return own


@pytest.fixture(scope="session")
def replay() -> Callable[[Search, Sequence[SearchCallback]], None]:
    """Tell callbacks what ``run_search`` would, three generations long."""

    def tell(search: Search, callbacks: Sequence[SearchCallback]) -> None:
        def each(event: str, *arguments: object) -> None:
            for callback in callbacks:
                getattr(callback, event)(search, *arguments)

        generation, history, phase = search.generation, search.history, search.phase
        search.phase, search.history = Phase.SEARCHING, []
        each("on_search_start")
        for number in (1, 2, 3):
            search.generation = number
            for candidate in search.candidates[:5]:
                each("on_candidate_end", candidate)
            search.history = history[:number]
            each("on_generation_end")
        search.phase = Phase.TESTING
        each("on_phase_start")
        each("on_search_end")
        each("on_search_teardown")
        search.generation, search.history, search.phase = generation, history, phase

    return tell
