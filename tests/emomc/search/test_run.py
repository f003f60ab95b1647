"""The search: its front is exact, and what it cannot do is refused."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from emomc.candidates.cost_model import uncompressed_genotype
from emomc.common.errors import UserError
from emomc.search.config import SearchConfig
from emomc.search.run import run_search


class TestFront:
    def test_is_the_non_dominated_set_of_everyone_measured(self, cold, brute_force_front):
        result, _ = cold
        measured = [candidate for candidate in result.candidates if candidate.measured]
        assert len(measured) > 20
        assert result.front == brute_force_front(measured, ["energy_mj"])
        assert len(result.front) >= 4

    def test_nobody_stopped_early_could_be_on_it(self, cold):
        result, _ = cold
        stopped = [candidate for candidate in result.candidates if not candidate.measured]
        assert stopped, "early rejection must act in this setting"
        for candidate in stopped:
            assert any(
                point.accuracy >= candidate.accuracy and point.costs["energy_mj"] <= candidate.costs["energy_mj"]
                for point in result.front
            )

    @pytest.mark.parametrize(
        ("objectives", "columns"),
        [
            pytest.param(("accuracy", "size"), ["size_kib"], marks=pytest.mark.slow),
            (("accuracy", "energy", "size"), ["energy_mj", "size_kib"]),
            pytest.param(("accuracy", "latency"), ["cycles"], marks=pytest.mark.slow),
        ],
    )
    def test_of_other_objectives(self, library, search, brute_force_front, objectives, columns):
        result = search(library, objectives=objectives, number_generations=3, early_rejection=False)
        assert result.front == brute_force_front(result.candidates, columns)

    def test_costs_are_those_of_the_cost_model(self, cold):
        result, _ = cold
        for point in result.front:
            costs = result.cost_model.costs([point.genotype])
            assert {name: float(values[0]) for name, values in costs.items()} == point.costs

    def test_the_final_front_alone_saw_the_test_images(self, cold):
        result, _ = cold
        assert all(point.test is not None and point.test.complete for point in result.front)
        assert all(c.test is None for c in result.candidates if c not in result.front)
        assert result.baseline_test.complete
        assert result.baseline_test.images != result.front[0].evaluation.images

    def test_every_candidate_lies_in_the_space(self, cold):
        result, _ = cold
        assert result.space.levels == (20, 50, 80, 100)
        assert all(result.space.encode(c.genotype).min() >= 0 for c in result.candidates)
        assert len({c.genotype for c in result.candidates}) == len(result.candidates)
        assert [c.index for c in result.candidates] == list(range(len(result.candidates)))
        assert uncompressed_genotype(result.library) not in {c.genotype for c in result.candidates}


class TestEnd:
    def test_patience_ends_a_search_that_stands_still(self, library, search):
        result = search(library, number_generations=200, patience=2, min_bits=2, max_bits=3, population_size=4)
        assert result.finished
        assert result.generation < 200

    def test_a_space_that_is_used_up(self, library, search):
        result = search(
            library, lowest_level=20, highest_level=20, min_bits=4, max_bits=4, number_generations=20, population_size=4
        )
        assert result.finished
        assert len(result.candidates) == 1
        assert len(result.front) == 1

    @pytest.mark.parametrize("algorithm", ["sms-emoa", pytest.param("nsga3", marks=pytest.mark.slow)])
    def test_algorithms_that_need_every_accuracy_get_it(self, library, search, brute_force_front, algorithm):
        result = search(library, algorithm=algorithm, number_generations=3)
        assert result.rejected == 0
        assert all(candidate.measured for candidate in result.candidates)
        assert result.front == brute_force_front(result.candidates, ["energy_mj"])

    def test_genes_that_are_real_are_rounded_once(self, library, search):
        result = search(library, variation="real", number_generations=3)
        assert all(isinstance(bits, int) for c in result.candidates for bits in c.genotype.bits)
        assert len({c.genotype for c in result.candidates}) == len(result.candidates)
        assert result.tally.asked >= len(result.candidates)


def test_a_search_that_is_dropped_frees_its_networks(library, search):
    """Their weights may fill a GPU, and Python's collector of cycles does not know of its memory."""
    gc.collect()
    gc.disable()
    try:
        networks = weakref.ref(search(library, number_generations=2).cost_model.networks)
        assert networks() is None
    finally:
        gc.enable()


class TestRefusals:
    def test_other_settings_in_the_same_folder(self, searched_library, search):
        library = searched_library
        before = contents_of_all(library.path.parent)
        with pytest.raises(UserError, match=r"a search with number_generations = 2 in .*, found one with 5"):
            search(library, name="s", number_generations=2)
        assert contents_of_all(library.path.parent) == before
        again = search(library, name="s", number_generations=2, overwrite=True)
        assert again.generation == 2

    def test_other_versions_of_what_makes_the_evaluations(self, searched_library, search, monkeypatch):
        monkeypatch.setattr("emomc.search.run.versions", lambda: {"torch": "1.0"})
        with pytest.raises(UserError, match=r"evaluations made with \S+ .* in .*s/evaluations.jsonl, found"):
            search(searched_library, name="s")

    def test_levels_that_the_library_lacks(self, library, search):
        with pytest.raises(
            UserError, match=r"levels of 85\.\.90 % among those of the library, found 100 %, 80 %, 50 %"
        ):
            search(library, lowest_level=85, highest_level=90)
        assert not (library.path.parent / "search").exists()

    def test_a_library_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="expected the manifest of a library"):
            run_search(tmp_path / "nowhere", SearchConfig())

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"population_size": 1}, "population_size of at least 2, found 1"),
            ({"number_generations": 0}, "number_generations of at least 1, found 0"),
            ({"seed": -1}, r"seed of 0\.\."),
            ({"patience": 0}, "patience of at least 1"),
            ({"lowest_level": 0}, "1 <= lowest_level"),
            ({"lowest_level": 60, "highest_level": 50}, "found 60 and 50"),
            ({"min_bits": 1}, "2 <= min_bits"),
            ({"max_bits": 13}, "max_bits <= 12"),
            ({"objectives": ("accuracy",)}, "objectives of accuracy and one or more"),
            ({"objectives": ("energy", "size")}, "objectives of accuracy"),
            ({"objectives": ("accuracy", "size", "size")}, "objectives of accuracy"),
            ({"energy_constraint": "5"}, "no energy_constraint, as energy is an objective"),
            ({"size_constraint": "0"}, "a constraint above 0"),
            ({"size_constraint": "-3%"}, "a constraint above 0"),
            ({"size_constraint": "nan"}, "a constraint above 0"),
            ({"size_constraint": "inf"}, "a constraint above 0"),
            ({"size_constraint": "ten"}, "found 'ten'"),
        ],
    )
    def test_settings_out_of_range(self, settings, words):
        with pytest.raises(UserError, match=words):
            SearchConfig(**settings)


def contents_of_all(folder: Path):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
