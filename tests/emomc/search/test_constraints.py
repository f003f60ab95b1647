"""Bounds on what is no objective: they are met, or refused where nothing meets them."""

from __future__ import annotations

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.common.errors import UserError
from emomc.search.state import Search

BOUND = {"size_constraint": "12%", "number_generations": 4}


@pytest.fixture(scope="module")
def bound_to_12_percent(copy_to, search, record, tmp_path_factory):
    """A search with a bound, and what it ran."""
    with pytest.MonkeyPatch.context() as patch:
        recorder = record(patch)
        result = search(copy_to(tmp_path_factory.mktemp("bound") / "run"), [FrontWriter()], **BOUND)
    return result, recorder


class TestConstraints:
    def test_are_met_by_the_front(self, bound_to_12_percent, brute_force_front):
        result, recorder = bound_to_12_percent
        bound = 0.12 * result.uncompressed["size_kib"]
        assert all(point.costs["size_kib"] <= bound for point in result.front)
        over = [candidate for candidate in result.candidates if candidate.costs["size_kib"] > bound]
        assert over, "the bound must bind in this setting"
        # Candidates that violate a constraint are not evaluated if others meet it.
        assert not {candidate.genotype for candidate in over} & {genotype for genotype, _, _ in recorder.jobs}
        measured = [candidate for candidate in result.candidates if candidate.measured]
        assert result.front == brute_force_front(measured, ["energy_mj"])

    def test_do_not_spoil_early_rejection(self, bound_to_12_percent, library, search, contents, same_trajectory):
        quick, _ = bound_to_12_percent
        full = search(library, [FrontWriter()], early_rejection=False, **BOUND)
        assert contents(quick.folder) == contents(full.folder)
        same_trajectory(quick, full)

    def test_in_units(self, library, search):
        result = search(library, objectives=("accuracy", "size"), energy_constraint="0.002", number_generations=3)
        assert result.bounds == {"energy_mj": 0.002}
        assert all(point.costs["energy_mj"] <= 0.002 for point in result.front)

    def test_out_of_reach_are_refused_before_anything_is_written(self, library, search):
        with pytest.raises(
            UserError, match=r"a size_constraint of 0.01 to be met .*level 20 %, 2 bits\) has size_kib 1"
        ):
            search(library, [FrontWriter()], size_constraint="0.01")
        assert not (library.path.parent / "search").exists()

    def test_that_no_candidate_meets_give_those_that_exceed_them_least(self, library, search, monkeypatch):
        # As if a network had met them that the search did not find.
        monkeypatch.setattr(Search, "check_reachable", lambda *_: None)
        result = search(library, [FrontWriter()], size_constraint="0.01", number_generations=4)
        assert result.front
        least = min(candidate.violation for candidate in result.candidates)
        assert least > 0
        assert {point.violation for point in result.front} == {least}
        assert all(point.measured for point in result.front)
        # The cheapest corner of the space is in the first population.
        assert min(c.costs["size_kib"] for c in result.candidates) == min(p.costs["size_kib"] for p in result.front)
        assert len((result.folder / "front.csv").read_text().splitlines()) == 1 + len(result.front)
        assert result.finished
