"""Evaluation of candidates: the same counts as a plain loop, and early stops without a change of the result."""

from __future__ import annotations

import pytest
import torch

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluation import Evaluation
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.compression.quantizers import Quantizer
from emomc.data.config import DataConfig
from emomc.data.splits import load_split
from emomc.library.data_sources import build_data
from emomc.library.network_sources import library_graph
from emomc.lightning_modules.candidate import CandidateClassifier, Stopped
from emomc.networks.build import build_network
from emomc.runtime.digests import tensor_digest

GENOTYPES = [Genotype(20, (2, 2, 2, 2, 2)), Genotype(50, (3, 4, 5, 6, 7)), Genotype(100, (32,) * 5)]


@pytest.fixture(scope="module")
def split():
    return load_split(build_data(DataConfig()), "validation")


@pytest.fixture(scope="module")
def networks(shared_library):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    return CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())


@pytest.fixture
def evaluator(networks, split):
    return CandidateEvaluator(networks, *split, batch_size=64)


@torch.inference_mode()
def plain_loop(networks, genotype, images, labels):
    network = networks.load(genotype)
    return int((network(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).sum())


class TestCounts:
    @pytest.mark.parametrize("genotype", GENOTYPES)
    def test_equal_those_of_a_plain_loop(self, evaluator, networks, split, genotype):
        found = evaluator.evaluate(genotype)
        assert found == Evaluation(plain_loop(networks, genotype, *split), len(split[1]), len(split[1]))
        assert found.complete
        assert found.accuracy == found.correct / len(split[1])

    def test_level_accuracies_are_those_of_the_manifest(self, evaluator, shared_library):
        for record in shared_library.manifest.levels:
            found = evaluator.evaluate(Genotype(record.percent, (32,) * 5))
            assert found.accuracy == pytest.approx(record.validation_accuracy, abs=1.5 / found.images)

    @pytest.mark.parametrize("batch_size", [1000, 288, 100, 7])
    def test_do_not_depend_on_how_the_images_are_cut(self, networks, split, batch_size):
        evaluator = CandidateEvaluator(networks, *split, batch_size=batch_size)
        found = evaluator.evaluate(GENOTYPES[1])
        assert abs(found.correct - plain_loop(networks, GENOTYPES[1], *split)) <= 1

    def test_one_candidate_leaves_nothing_to_the_next(self, evaluator):
        first = [evaluator.evaluate(genotype) for genotype in GENOTYPES]
        again = [evaluator.evaluate(genotype) for genotype in reversed(GENOTYPES)]
        assert first == list(reversed(again))


class TestEarlyEnd:
    def test_stops_when_too_few_can_still_be_right_and_not_before(self, evaluator, split):
        whole = evaluator.evaluate(GENOTYPES[0])
        assert whole.correct < whole.images - 64, "the candidate must be poor for this test"
        for required_correct in range(1, whole.images + 1, 13):
            found = evaluator.evaluate(GENOTYPES[0], required_correct=required_correct)
            if found.complete:
                assert found == whole
            else:
                assert found.most_correct < required_correct
                # One block earlier it could still reach it; blocks have two batches, the first has one.
                ends = [0, 64, 192]
                before = ends[ends.index(found.seen) - 1]
                part = plain_loop(evaluator.networks, GENOTYPES[0], *(tensor[:before] for tensor in split))
                assert before == 0 or part + len(split[1]) - before >= required_correct
            assert found.most_correct >= whole.correct
            if required_correct <= whole.correct:
                assert found.complete

    def test_stops_at_the_first_miss_too_many(self, evaluator):
        first = evaluator.evaluate(GENOTYPES[0], required_correct=evaluator.images)
        assert first.seen == 64
        assert evaluator.evaluate(GENOTYPES[0], required_correct=first.most_correct + 1) == first
        assert evaluator.evaluate(GENOTYPES[0], required_correct=first.most_correct).seen > 64

    def test_without_a_requirement_nothing_waits_and_nothing_is_printed(self, evaluator, monkeypatch, capsys):
        counted = []
        correct = CandidateClassifier.correct.fget
        counting = property(lambda module: counted.append(None) or correct(module))
        monkeypatch.setattr(CandidateClassifier, "correct", counting)
        assert evaluator.evaluate(GENOTYPES[0]).complete
        # One block of all images, after which it is read for the result alone: reading it waits for the device.
        assert len(evaluator._blocks) == 1
        at_the_end = len(counted)
        evaluator.evaluate(GENOTYPES[0], required_correct=1)
        assert len(evaluator._blocks) == 3
        # For the images seen, which are those right and those wrong, and for those right.
        assert len(counted) == 2 * at_the_end + 2 * 3
        assert capsys.readouterr().out == ""

    def test_nothing_is_printed_of_what_is_logged(self, evaluator, monkeypatch, capsys):
        monkeypatch.setattr(
            CandidateClassifier, "on_validation_epoch_end", lambda module: module.log("share", 1.0), raising=False
        )
        assert evaluator.evaluate(GENOTYPES[0]).complete
        assert capsys.readouterr().out == ""

    def test_taken_up_again_it_sees_only_the_rest(self, evaluator):
        whole = evaluator.evaluate(GENOTYPES[0])
        part = evaluator.evaluate(GENOTYPES[0], required_correct=whole.images)
        assert 0 < part.seen < whole.images
        seen = []
        hook = evaluator.networks.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        assert evaluator.evaluate(GENOTYPES[0], previous=part) == whole
        hook.remove()
        assert sum(seen) == whole.images - part.seen

    def test_taken_up_again_it_may_be_stopped_again(self, evaluator):
        whole = evaluator.evaluate(GENOTYPES[0])
        first = evaluator.evaluate(GENOTYPES[0], required_correct=whole.images)
        second = evaluator.evaluate(GENOTYPES[0], previous=first, required_correct=first.most_correct)
        assert first.seen < second.seen
        assert second.most_correct < first.most_correct or second.complete
        assert evaluator.evaluate(GENOTYPES[0], previous=second) == whole


def test_stopped_between_two_batches_it_has_no_result_and_the_next_is_whole(evaluator):
    whole = evaluator.evaluate(GENOTYPES[0])
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        evaluator.evaluate(GENOTYPES[0], stopped=lambda: next(asked))
    assert next(asked, None) is None
    assert evaluator.evaluate(GENOTYPES[0]) == whole


def test_bounds_of_an_evaluation():
    part = Evaluation(10, 64, 100)
    assert not part.complete
    assert part.most_correct == 46
    assert part.accuracy == 0.46
    whole = Evaluation(10, 100, 100)
    assert whole.complete
    assert whole.accuracy == 0.1


def test_scores_that_are_not_finite_are_refused(shared_library, split):
    lenet = build_network("lenet5", in_channels=1, num_classes=10, network_args={})
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    images = split[0].clone()
    images[70] = float("inf")
    evaluator = CandidateEvaluator(networks, images, split[1], batch_size=64)
    with pytest.raises(UserError, match=r"finite class scores, found others at level 50 % with bits \(3, 4"):
        evaluator.evaluate(GENOTYPES[1])


def test_digest_tells_tensors_apart():
    one = torch.arange(6).reshape(2, 3)
    digests = {
        tensor_digest(one),
        tensor_digest(one.reshape(3, 2)),
        tensor_digest(one.float()),
        tensor_digest(one + 1),
        tensor_digest(one, one),
    }
    assert len(digests) == 5
    assert tensor_digest(one) == tensor_digest(one.clone())
