"""The front of a search depends on the settings only, and no image is evaluated twice."""

from __future__ import annotations

import json
import shutil

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.common.run_folder import LOG_FILE
from emomc.library.library import Library


class TestSameFront:
    def test_the_same_seed_twice(self, cold, library, search, contents):
        again = search(library, [FrontWriter()], name="another-name")
        assert contents(again.folder) == contents(cold[0].folder)
        assert (again.folder / LOG_FILE).read_bytes() == (cold[0].folder / LOG_FILE).read_bytes()
        assert (again.folder / "candidates.csv").read_bytes() == (cold[0].folder / "candidates.csv").read_bytes()

    def test_another_seed_differs(self, cold, copy_of_library, search, contents):
        other = search(copy_of_library("other"), [FrontWriter()], seed=1)
        assert contents(other.folder) != contents(cold[0].folder)

    def test_without_early_rejection(self, cold, library, search, recorder, contents, same_trajectory):
        full = search(library, [FrontWriter()], early_rejection=False)
        assert full.rejected == 0
        assert all(result.complete for _, _, result in recorder.jobs)
        quick, quick_recorder = cold
        assert contents(full.folder) == contents(quick.folder)
        assert recorder.survivors == quick_recorder.survivors
        same_trajectory(full, quick)
        # Some evaluations were stopped, which saved images.
        assert quick.rejected >= 3
        assert quick.tally.images < full.tally.images

    @pytest.mark.slow
    @pytest.mark.parametrize("settings", [{"seed": 2, "accounting": "paper", "coding": "csr"}, {"seed": 3}])
    def test_without_early_rejection_in_other_settings(
        self, copy_of_library, search, contents, same_trajectory, settings
    ):
        settings = {"objectives": ("accuracy", "energy", "size"), "quantizer": "mse", **settings}
        quick = search(copy_of_library("quick"), [FrontWriter()], **settings)
        full = search(copy_of_library("full"), [FrontWriter()], early_rejection=False, **settings)
        assert contents(quick.folder) == contents(full.folder)
        same_trajectory(quick, full)
        assert full.rejected == 0

    def test_with_a_warm_log_nothing_is_measured(self, cold, searched_library, search, recorder, contents):
        recorder.validation_images = cold[1].validation_images
        second = search(searched_library, [FrontWriter()], name="second")
        assert recorder.jobs == []
        assert (second.tally.measured, second.tally.images) == (0, 0)
        assert second.tally.reused == len(second.candidates)
        assert contents(second.folder) == contents(cold[0].folder)

    @pytest.mark.slow
    def test_with_a_log_of_another_search_that_is_half_warm(self, cold, library, search, contents, same_trajectory):
        search(library, name="elsewhere", dataflow="icoc", number_generations=4)
        second = search(library, [FrontWriter()], name="second")
        assert second.tally.reused > 0
        assert contents(second.folder) == contents(cold[0].folder)
        same_trajectory(second, cold[0])


class TestMeasuredOnce:
    def test_no_genotype_is_begun_twice_and_no_image_seen_twice(self, cold):
        result, recorder = cold
        assert len(recorder.begun_anew) == len(set(recorder.begun_anew)) == result.tally.measured
        seen = {}
        for genotype, previous, evaluation in recorder.jobs:
            assert (previous.seen if previous else 0) == seen.get(genotype, 0)
            seen[genotype] = evaluation.seen
        assert sum(seen.values()) == result.tally.images

    def test_a_search_with_another_dataflow_reuses(self, cold, searched_library, search, recorder):
        assert cold[0].config.dataflow != "icoc"
        settings = {"dataflow": "icoc", "coding": "csr", "objectives": ("accuracy", "size")}
        second = search(searched_library, name="second", **settings)
        assert second.tally.reused > 0
        assert second.tally.measured + second.tally.reused == len(second.candidates)
        begun, before = recorder.begun_anew, cold[1].begun_anew
        assert len(begun) == len(set(begun)) == second.tally.measured
        assert not {*begun} & {*before}

    @pytest.mark.slow
    def test_another_quantizer_reuses_nothing(self, library, search):
        search(library, name="first", number_generations=1)
        other = search(library, name="second", number_generations=1, quantizer="mse")
        assert other.tally.reused == 0

    def test_the_precision_is_part_of_an_evaluations_key(self, cold, tmp_path, search, monkeypatch):
        class Opened(Exception):
            pass

        def stop_at_the_log(path, library, conditions, *_, **__):
            raise Opened(conditions)

        # Nothing runs, so that the networks of the other search will do.
        monkeypatch.setattr("emomc.search.image_task.checked_library_graph", lambda *_: None)
        monkeypatch.setattr("emomc.search.run._networks", lambda *_: cold[0].cost_model.networks)
        monkeypatch.setattr("emomc.search.run.EvaluationLog", stop_at_the_log)
        library = Library.open(shutil.copytree(cold[0].library.path, tmp_path / "run" / "library"))
        with pytest.raises(Opened) as opened:
            search(library, precision="bf16-mixed")
        first_line = cold[0].files.log.read_text().splitlines()[0]
        assert opened.value.args[0] == {**json.loads(first_line)["conditions"], "precision": "bf16-mixed"}

    def test_forward_passes_are_counted(self, library, search, monkeypatch):
        forwards = []
        evaluate = CandidateEvaluator.evaluate

        def counted(evaluator, genotype, **options):
            hook = evaluator.networks.network.register_forward_pre_hook(
                lambda _, inputs: forwards.append(len(inputs[0]))
            )
            try:
                return evaluate(evaluator, genotype, **options)
            finally:
                hook.remove()

        monkeypatch.setattr(CandidateEvaluator, "evaluate", counted)
        result = search(library, number_generations=2)
        tested = (1 + len(result.front)) * result.baseline_test.images
        assert sum(forwards) == result.tally.images + tested
