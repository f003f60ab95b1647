"""Evaluations side by side, with threads in place of processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.errors import UserError
from emomc.evaluation import Evaluation
from emomc.evaluation_pool import EvaluationPool, Job

IMAGES = 100


class Side:
    """What a pool needs of Fabric, for one of several threads."""

    device = torch.device("cpu")

    def __init__(self, rank, world_size, rows, barrier):
        self.global_rank, self.world_size = rank, world_size
        self.rows, self.barrier = rows, barrier
        self.exchanges = 0

    def all_gather(self, own):
        self.exchanges += len(own) > 1
        self.rows[self.global_rank] = own
        self.barrier.wait(5)
        gathered = torch.stack(list(self.rows))
        self.barrier.wait(5)
        return gathered


class Counter:
    """Evaluates nothing: a genotype is the number of its blocks, or the error it ends with."""

    def __init__(self, log):
        self.log = log

    def evaluate(self, genotype, *, begun, needed, between_blocks):
        name, blocks = genotype
        for block in range(blocks):
            if block:
                between_blocks()
            self.log.append(name)
        if name == "fails":
            raise UserError("expected a network, found another")
        return Evaluation(blocks, blocks, IMAGES)


def run_side_by_side(genotypes, world_size, stop_after=None):
    """Return of each thread: what its pool returned or raised, the results it heard of, and its exchanges."""
    rows, barrier = [None] * world_size, threading.Barrier(world_size)
    ran = []

    def run(rank):
        side, results = Side(rank, world_size, rows, barrier), {}

        def take(running):
            genotype = next((one for one in genotypes if one not in running and one not in results), None)
            return genotype and Job(genotype, None, 0, lambda result: results.update({genotype: result}))

        def stopped():
            return rank == 0 and stop_after is not None and len(results) >= stop_after

        try:
            outcome = EvaluationPool(side, Counter(ran), take, stopped).run()
        except UserError as error:
            outcome = str(error)
        return outcome, results, side.exchanges

    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(run, range(world_size))), ran


@settings(max_examples=30, deadline=None)
@given(blocks=st.lists(st.integers(1, 6), max_size=12), world_size=st.integers(1, 4))
def test_every_job_runs_once_and_everybody_hears_of_it(blocks, world_size):
    genotypes = list(enumerate(blocks))
    outcomes, ran = run_side_by_side(genotypes, world_size)
    assert sorted(ran) == sorted(name for name, count in genotypes for _ in range(count))
    for finished, results, _ in outcomes:
        assert finished is True
        assert results == {genotype: Evaluation(genotype[1], genotype[1], IMAGES) for genotype in genotypes}


def test_whoever_ends_takes_the_next():
    # One of six blocks beside six of one; two at a time it would be six, one, one, and one.
    (outcome, *_), _ = run_side_by_side([("long", 6), *((name, 1) for name in "abcdef")], 2)
    assert outcome[2] == 6


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_stopped_by_one_they_finish_what_is_under_way_and_begin_nothing(world_size):
    outcomes, ran = run_side_by_side([(name, 2) for name in "abcdefgh"], world_size, stop_after=2)
    assert not any(finished for finished, *_ in outcomes)
    assert len({*map(len, (results for _, results, _ in outcomes))}) == 1
    assert len(ran) == 2 * len(outcomes[0][1]) < 16


def test_stopped_at_its_end_it_is_finished():
    assert run_side_by_side([("a", 1), ("b", 1)], 2, stop_after=2)[0][0][0] is True
    assert run_side_by_side([], 2, stop_after=0)[0][0][0] is True


def test_a_failure_ends_all_and_its_own_process_says_why():
    outcomes, _ = run_side_by_side([("a", 5), ("fails", 2), ("b", 1)], 3)
    assert [said for said, *_ in outcomes] == [
        "expected every process to finish its candidate, found one that failed",
        "expected a network, found another",
        "expected every process to finish its candidate, found one that failed",
    ]
