"""Parallel evaluation, with threads in place of processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore

from emomc.candidates.evaluation import Evaluation
from emomc.common.errors import ProcessLost, UserError
from emomc.lightning_modules.candidate import Stopped
from emomc.runtime.journal import OwnJournal, StoreJournal
from emomc.search.evaluation_pool import EvaluationPool, Job

IMAGES = 100


class Sleeper:
    """A fake evaluator. A genotype is a name, and the names that must have been evaluated before it ends."""

    def __init__(self, ran, changed, wait=lambda: None):
        self.ran, self.changed, self.wait = ran, changed, wait

    def evaluate(self, genotype, *, previous, required_correct, stopped):
        name, awaited = genotype
        self.wait()
        with self.changed:
            assert self.changed.wait_for(lambda: {*awaited} <= {*self.ran}, timeout=10)
            self.ran.append(name)
            self.changed.notify_all()
        if stopped() and name == "long":
            raise Stopped
        if name == "fails":
            raise UserError("expected a network, found another")
        return result_of(genotype)


def result_of(genotype):
    return Evaluation(len(genotype[1]), len(genotype[1]) + 1, IMAGES)


def run_side_by_side(genotypes, world_size, stop_after=None):
    """Return what each thread's pool returned or raised with the results it heard of, and the names in order."""
    store, ran, changed = HashStore(), [], threading.Condition()

    told = threading.Event()

    def run(rank):
        journal = StoreJournal(store, rank, world_size) if world_size > 1 else OwnJournal()
        results = {}

        def take(running):
            genotype = next((one for one in genotypes if one not in running and one not in results), None)
            return genotype and Job(genotype, None, 0, lambda result: results.update({genotype: result}))

        write = journal.write

        def tell(entry):
            write(entry)
            if stopped():
                told.set()

        journal.write = tell

        def stopped():
            return rank == 0 and stop_after is not None and len(ran) >= stop_after

        def wait():
            # A job takes no time: the others could do all of them before the first process has said that it stops.
            if rank != 0 and stop_after is not None and len(ran) >= stop_after:
                assert told.wait(10)

        try:
            outcome = EvaluationPool(journal, Sleeper(ran, changed, wait), take, stopped).run()
        except (UserError, ProcessLost) as error:
            outcome = str(error)
        return outcome, results

    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(run, range(world_size))), ran


@settings(max_examples=30, deadline=None)
@given(jobs=st.integers(0, 12), world_size=st.integers(1, 4))
def test_every_job_runs_once_and_everybody_hears_of_it(jobs, world_size):
    genotypes = [(number, ()) for number in range(jobs)]
    outcomes, ran = run_side_by_side(genotypes, world_size)
    assert sorted(ran) == list(range(jobs))
    for finished, results in outcomes:
        assert finished is True
        assert results == {genotype: result_of(genotype) for genotype in genotypes}
        # All threads received the results in the same order.
        assert list(results) == list(outcomes[0][1])


def test_whoever_ends_takes_the_next():
    # The first job ends after all others: they ran in parallel with it.
    outcomes, ran = run_side_by_side([("long", tuple("abcdef")), *((name, ()) for name in "abcdef")], 2)
    assert ran == [*"abcdef", "long"]
    assert [finished for finished, _ in outcomes] == [True, True]


def test_jobs_that_come_up_while_all_others_wait_are_run():
    # The second job is there once the first is done, when the other two threads have said long ago that they are free.
    store, ran = HashStore(), []

    def run(rank):
        results = []

        def take(running):
            if running or len(results) == 5:
                return None
            return Job((len(results), ()), None, 0, results.append)

        pool = EvaluationPool(
            StoreJournal(store, rank, 3), Sleeper(ran, threading.Condition()), take, stopped=lambda: False
        )
        assert pool.run() is True
        return results

    with ThreadPoolExecutor(3) as threads:
        assert {*map(len, threads.map(run, range(3)))} == {5}
    assert ran == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("world_size", "stop_after"), [(1, 0), (1, 2), (2, 0), (3, 0)])
def test_stopped_by_one_they_finish_what_is_under_way_and_begin_nothing(world_size, stop_after):
    genotypes = [(name, ()) for name in "abcdefgh"]
    outcomes, ran = run_side_by_side(genotypes, world_size, stop_after)
    assert not any(finished for finished, _ in outcomes)
    assert len({*map(len, (results for _, results in outcomes))}) == 1
    assert len(ran) == len(outcomes[0][1]) < len(genotypes)


def test_a_job_that_is_stopped_in_the_middle_has_no_result():
    outcomes, ran = run_side_by_side([("a", ()), ("long", ()), ("b", ())], 1, stop_after=2)
    assert ran == ["a", "long"]
    assert outcomes == [(False, {("a", ()): result_of(("a", ()))})]


def test_stopped_at_its_end_it_is_finished():
    assert run_side_by_side([("a", ()), ("b", ())], 1, stop_after=2)[0][0][0] is True
    assert run_side_by_side([], 2, stop_after=0)[0][0][0] is True


def test_a_failure_ends_all_and_its_own_process_says_why():
    outcomes, _ = run_side_by_side([("a", ("fails",)), ("fails", ()), ("b", ("fails",))], 3)
    assert sorted(said for said, _ in outcomes) == [
        "expected a network, found another",
        "expected every process to finish its candidate, found one that failed",
        "expected every process to finish its candidate, found one that failed",
    ]
