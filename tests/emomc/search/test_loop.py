"""The loop of a search, with evaluations that cost nothing; ``test_run.py`` has the loop with real networks."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel, uncompressed_genotype
from emomc.candidates.evaluation import Evaluation
from emomc.compression.quantizers import Quantizer
from emomc.hardware.description import load_hardware
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.runtime.journal import OwnJournal
from emomc.search.config import SearchConfig
from emomc.search.forecast import Forecast
from emomc.search.loop import SearchLoop
from emomc.search.run import search_space
from emomc.search.start_population import start_population
from emomc.search.state import Search, Tally

IMAGES, BLOCK = 40, 4
TAKEN_UP_AGAIN = {"population_size": 8, "number_generations": 12, "seed": 3}
"""With these, some evaluations are stopped and go on later."""


class Grader:
    """A fake evaluator: more bits and more weights are right more often, by a chance that depends on the genotype."""

    def __init__(self, seed=0, images=IMAGES):
        self.seed, self.images, self.jobs = seed, images, []
        self.before_each = lambda genotype, previous, required: None

    def evaluate(self, genotype, *, previous=None, required_correct=0, stopped=lambda: False):
        self.before_each(genotype, previous, required_correct)
        random = np.random.default_rng([self.seed, genotype.level, *genotype.bits])
        share = (genotype.level / 100 + np.mean(genotype.bits) / 4) / 2
        right = random.random(self.images) < share * random.uniform(0.5, 1)
        seen = previous.seen if previous else 0
        result = None
        while result is None or not (result.complete or result.most_correct < required_correct):
            seen += BLOCK
            result = Evaluation(int(right[:seen].sum()), seen, self.images)
        self.jobs.append((genotype, previous, required_correct, result))
        return result

    @property
    def begun(self):
        return [genotype for genotype, previous, _, _ in self.jobs if previous is None]


class Log(dict):
    """A log in memory."""

    append = dict.__setitem__


class Counter:
    """An observer that counts what it is told."""

    def __init__(self):
        self.generations, self.candidates = 0, []

    def on_generation_end(self, search):
        self.generations += 1

    def on_candidate_end(self, search, candidate):
        self.candidates.append((candidate.genotype, candidate.evaluation))


@pytest.fixture(scope="module")
def cost_model(shared_library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    return CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding="normal", accounting="exact")


@pytest.fixture
def make(cost_model, shared_library):
    """Make a loop: ``make(grader, log, observers, stopped, early_rejection, **settings)``."""

    def made(grader=None, log=None, observers=(), stopped=lambda: False, early_rejection=True, **settings):
        few = {"population_size": 4, "number_generations": 4, "max_bits": 4, "variation": "real"}
        config = SearchConfig(**{**few, **settings})
        search = Search(shared_library, config, None, search_space(shared_library, config), cost_model)
        processes = SimpleNamespace(journal=OwnJournal(), stopped=stopped)
        log = Log() if log is None else log
        grader = grader or Grader()
        return SearchLoop(search, grader, log, observers, processes, early_rejection=early_rejection)

    return made


def survivors(loop):
    return sorted(map(tuple, loop.evolution._algorithm.pop.get("X")))


class TestEarlyRejection:
    @pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("constraint", [None, "12%"])
    @pytest.mark.parametrize(
        "settings", [{"variation": "real"}, {"variation": "integer", "max_bits": 8, "number_generations": 9}]
    )
    def test_changes_neither_the_front_nor_the_survivors(self, make, seed, constraint, settings):
        quick = make(Grader(seed), seed=seed, size_constraint=constraint, **settings)
        whole = make(Grader(seed), seed=seed, size_constraint=constraint, early_rejection=False, **settings)
        assert quick.run()
        assert whole.run()
        assert survivors(quick) == survivors(whole)
        assert [c.genotype for c in quick.search.candidates] == [c.genotype for c in whole.search.candidates]
        found, expected = ([(c.index, c.evaluation) for c in loop.search.front] for loop in (quick, whole))
        assert found == expected
        assert quick.search.history == whole.search.history
        assert quick.search.rejected > 0
        assert whole.search.rejected == 0
        assert {required for _, _, required, _ in whole.evaluator.jobs} == {0}

    def test_asks_for_no_more_than_a_place_among_the_survivors_takes(self, make):
        loop = make(Grader(3), **TAKEN_UP_AGAIN)
        asked, search, taken_up_again = [], loop.search, []
        candidates_of = search.candidates_of
        search.candidates_of = lambda genotypes: asked.append(candidates_of(genotypes)) or asked[-1]

        def check(genotype, previous, required):
            parents = loop.evolution._algorithm.pop
            parents = [] if parents is None or len(parents) == 0 else parents.get("F").tolist()
            generation = dict.fromkeys(asked[-1])
            others = [c for c in generation if c.evaluation is not None and c.genotype != genotype]
            (own,) = (c for c in generation if c.genotype == genotype)
            known = [*parents, *([1 - c.accuracy, c.costs["energy_mj"]] for c in others)]

            def has_a_place(correct):
                return ranked([*known, [1 - correct / IMAGES, own.costs["energy_mj"]]], loop.evolution.survivors)

            # Not more than it can reach.
            most = previous.most_correct if previous else IMAGES
            assert required == most or (required < most and has_a_place(required))
            assert required == 0 or not has_a_place(required - 1)
            taken_up_again.append(previous is not None)

        loop.evaluator.before_each = check
        assert loop.run()
        assert any(taken_up_again)
        assert search.rejected > 0

    def test_begins_candidates_before_it_goes_on_with_others(self, make):
        plain = make(number_generations=1)
        assert plain.run()
        first = plain.evaluator.begun
        log = Log({first[1]: Evaluation(2, 4, IMAGES), first[3]: Evaluation(4, 4, IMAGES)})
        loop = make(log=log, number_generations=1)
        assert loop.run()
        order = [first[0], first[2], *first[4:], first[1], first[3]]
        assert [genotype for genotype, _, _, _ in loop.evaluator.jobs] == order
        assert all(candidate.measured for candidate in loop.search.candidates)

    @pytest.mark.parametrize(
        ("algorithm", "wanted", "done"), [("nsga2", True, True), ("nsga2", False, False), ("nsga3", True, False)]
    )
    def test_is_only_done_where_the_front_alone_decides(self, make, algorithm, wanted, done):
        loop = make(algorithm=algorithm, early_rejection=wanted, number_generations=2)
        assert loop.run()
        assert loop.early_rejection == done
        assert any(required for _, _, required, _ in loop.evaluator.jobs) == done


def ranked(points, places):
    """Whether the last of the points lies in one of the fronts that are needed to fill the places."""
    left = list(range(len(points)))
    while left and places > 0:
        front = [
            one
            for one in left
            if not any(
                points[other] != points[one] and all(a <= b for a, b in zip(points[other], points[one], strict=True))
                for other in left
            )
        ]
        if len(points) - 1 in front:
            return True
        places -= len(front)
        left = [one for one in left if one not in front]
    return False


class TestEnd:
    @pytest.mark.parametrize("patience", [None, 1, 2, 3])
    @pytest.mark.parametrize(
        "volumes", [[0, 0, 0, 0, 0, 0], [1, 1, 2, 2, 2, 2], [1, 2, 3, 4, 4, 4], [1, 2, 3, 4, 5, 6]]
    )
    def test_comes_after_as_many_generations_without_growth_as_patience_allows(self, make, patience, volumes):
        loop = make(patience=patience, population_size=2, number_generations=len(volumes))
        search = loop.search
        entry = search.statistics
        search.end_generation = lambda: search.history.append(
            dataclasses.replace(entry, hypervolume=volumes[len(search.history)])
        )
        assert loop.run()
        generations, without_growth, best = 0, 0, -1
        while generations < len(volumes) and without_growth != patience:
            without_growth = 0 if volumes[generations] > best else without_growth + 1
            best = max(best, volumes[generations])
            generations += 1
        assert len(search.history) == search.generation == generations

    @pytest.mark.parametrize("jobs", [0, 5, 11])
    def test_comes_when_a_process_is_stopped(self, make, jobs):
        grader = Grader()
        loop = make(grader, stopped=lambda: len(grader.jobs) >= jobs)
        assert not loop.run()
        assert len(grader.jobs) == jobs
        assert len(loop.search.history) == loop.search.generation - 1 == (jobs > 8)


def test_the_tally_and_the_observers_count_what_was_done(make):
    log, observer = Log(), Counter()
    loop = make(Grader(3), log=log, observers=[observer], **TAKEN_UP_AGAIN)
    assert loop.run()
    search, jobs = loop.search, loop.evaluator.jobs
    assert any(previous for _, previous, _, _ in jobs)
    assert len(loop.evaluator.begun) == len(set(loop.evaluator.begun)) == search.tally.measured
    seen = [result.seen - (previous.seen if previous else 0) for _, previous, _, result in jobs]
    assert search.tally.images == sum(seen)
    # The first population is twice as large.
    assert search.tally.asked == 13 * 8
    assert search.tally.reused == 0
    assert observer.candidates == [(genotype, result) for genotype, _, _, result in jobs]
    assert observer.generations == len(search.history) == 12
    assert log == {c.genotype: c.evaluation for c in search.candidates if c.evaluation is not None}

    again = make(Grader(3), log=Log(log), observers=[observer := Counter()], **TAKEN_UP_AGAIN)
    assert again.run()
    assert again.evaluator.jobs == []
    assert again.search.tally == Tally(asked=13 * 8, measured=0, reused=len(log), images=0)
    assert dict(observer.candidates) == log
    assert len(observer.candidates) == len(log)


class TestConstraints:
    def test_candidates_that_violate_them_are_not_evaluated_if_others_meet_them(self, make):
        loop = make(size_constraint="12%")
        assert loop.run()
        over = {candidate.genotype for candidate in loop.search.candidates if candidate.violation}
        assert over
        assert loop.evaluator.jobs
        assert not over & set(loop.evaluator.begun)

    def test_that_no_candidate_meets_give_those_that_violate_them_least(self, make):
        loop = make(size_constraint="0.01", number_generations=2)
        assert loop.run()
        least = min(candidate.violation for candidate in loop.search.candidates)
        assert least > 0
        closest = [candidate for candidate in loop.search.candidates if candidate.violation == least]
        assert loop.evaluator.begun == [candidate.genotype for candidate in closest]
        assert {required for _, _, required, _ in loop.evaluator.jobs} == {0}
        assert loop.search.front
        again = make(log=loop.log, size_constraint="0.01", number_generations=2)
        assert again.run()
        assert again.evaluator.jobs == []
        assert again.search.tally.reused == len(closest)


@pytest.mark.parametrize("variation", ["integer", "real"])
def test_the_first_population_is_promising_unless_it_is_to_be_random(make, variation):
    loop = make(variation=variation, number_generations=1, max_bits=3)
    search = loop.search
    genes = start_population(search, Forecast(search, IMAGES), 8)
    assert loop.run()
    found = {candidate.genotype for candidate in search.candidates}
    assert (found == {search.space.decode(row) for row in genes}) == (variation == "integer")


class TestScreening:
    def test_learns_from_the_same_candidates_whoever_was_rejected(self, make, monkeypatch):
        learned = []
        learn = Forecast.learn
        monkeypatch.setattr(
            Forecast,
            "learn",
            lambda forecast, genotypes, errors: (
                learned.append((tuple(genotypes), errors.tolist())) or learn(forecast, genotypes, errors)
            ),
        )
        settings = {"variation": "integer", "max_bits": 8, "number_generations": 8}
        quick, whole = (make(early_rejection=early, **settings) for early in (True, False))
        assert quick.run()
        half = len(learned)
        assert whole.run()
        assert quick.search.rejected > 0
        assert learned[:half] == learned[half:]

    def test_asks_for_no_candidate_twice(self, make):
        loop = make(variation="integer", max_bits=8, number_generations=8)
        assert loop.run()
        assert loop.search.tally.asked == len(loop.search.candidates) == 9 * 4

    def test_the_papers_settings_have_none(self, make):
        loop = make(variation="real")
        assert loop.evolution._forecast is None


class TestTest:
    def test_evaluates_the_uncompressed_network_and_the_front_once_each(self, make):
        loop = make()
        assert loop.run()
        front, grader = loop.search.front, Grader(seed=1, images=60)
        loop.test(grader, lambda: False)
        expected = [uncompressed_genotype(loop.search.library), *(candidate.genotype for candidate in front)]
        assert [job[:3] for job in grader.jobs] == [(genotype, None, 0) for genotype in expected]
        results = [result for _, _, _, result in grader.jobs]
        assert [loop.search.baseline_test, *(candidate.test for candidate in front)] == results
        assert all(result.seen == result.images == 60 for result in results)
        assert sum(candidate.test is not None for candidate in loop.search.candidates) == len(front)

    def test_stopped_it_keeps_what_it_has(self, make):
        loop = make()
        assert loop.run()
        assert len(loop.search.front) > 1
        grader = Grader()
        loop.test(grader, lambda: len(grader.jobs) == 2)
        assert loop.search.baseline_test is not None
        assert [candidate.test is not None for candidate in loop.search.front[:2]] == [True, False]
