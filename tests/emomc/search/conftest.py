"""One search that the tests of searches compare others with, and what it ran."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.library.library import Library
from emomc.search.evolution import Evolution
from emomc.search.state import Candidate, Search


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """Skip the figures, which take longer than the search; the tests of the callbacks check them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
        yield


class Recorder:
    """What a search ran over images, and who survived each generation."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.jobs: list[tuple[Any, Any, Any]] = []
        self.survivors: list[Any] = []
        self.validation_images: int | None = None
        evaluate, tell = CandidateEvaluator.evaluate, Evolution.tell

        def record_job(evaluator: Any, genotype: Any, *, previous: Any = None, **options: Any) -> Any:
            self.validation_images = self.validation_images or evaluator.images
            result = evaluate(evaluator, genotype, previous=previous, **options)
            if evaluator.images == self.validation_images:
                self.jobs.append((genotype, previous, result))
            return result

        def record_survivors(evolution: Any, losses: Any, violations: Any) -> None:
            tell(evolution, losses, violations)
            genes = evolution._algorithm.pop.get("X")
            self.survivors.append(genes[np.lexsort(genes.T)].tolist())

        patch.setattr(CandidateEvaluator, "evaluate", record_job)
        patch.setattr(Evolution, "tell", record_survivors)

    @property
    def begun_anew(self) -> list[Any]:
        """Genotypes that were evaluated from the first image on."""
        return [genotype for genotype, previous, _ in self.jobs if previous is None]


@pytest.fixture(scope="session")
def record() -> Callable[[pytest.MonkeyPatch], Recorder]:
    """Record searches until a patch is undone."""
    return Recorder


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record the searches of a test."""
    return Recorder(monkeypatch)


@pytest.fixture(scope="session")
def cold(
    copy_to: Callable[[Path], Library], search: Callable[..., Search], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Search, Recorder]:
    """A search of a library without earlier searches; tests read it and never change it."""
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(patch)
        result = search(copy_to(tmp_path_factory.mktemp("cold") / "run"), [FrontWriter()], name="s")
    return result, recorder


@pytest.fixture
def searched_library(cold: tuple[Search, Recorder], tmp_path: Path) -> Library:
    """A copy of the library and of that search, the test's own."""
    run = Path(shutil.copytree(cold[0].library.path.parent, tmp_path / "searched"))
    return Library.open(run / "library")


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Read the files of a front."""
    return lambda folder: {name: (folder / name).read_bytes() for name in ("front.csv", "front.json")}


@pytest.fixture(scope="session")
def brute_force_front() -> Callable[[Sequence[Candidate], Sequence[str]], list[Candidate]]:
    """Find the non-dominated candidates among those evaluated on all images; of equal ones the first."""

    def found(candidates: Sequence[Candidate], columns: Sequence[str]) -> list[Candidate]:
        def losses(candidate: Candidate) -> tuple[float, ...]:
            return (-candidate.evaluation.correct, *(candidate.costs[name] for name in columns))

        front: list[Candidate] = []
        taken: set[tuple[float, ...]] = set()
        for candidate in candidates:
            own = losses(candidate)
            if own in taken or any(
                all(a <= b for a, b in zip(losses(other), own, strict=True)) and losses(other) != own
                for other in candidates
            ):
                continue
            taken.add(own)
            front.append(candidate)
        return sorted(front, key=losses)

    return found


@pytest.fixture(scope="session")
def same_trajectory() -> Callable[[Search, Search], None]:
    """Check that two searches had the same candidates in the same generations."""

    def check(one: Search, other: Search) -> None:
        assert [c.genotype for c in one.candidates] == [c.genotype for c in other.candidates]
        assert [c.generation for c in one.candidates] == [c.generation for c in other.candidates]

    return check
