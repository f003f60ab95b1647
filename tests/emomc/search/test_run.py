"""The search: its front is exact and depends on the settings only."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.common.errors import UserError
from emomc.common.run_folder import LOG_FILE
from emomc.library.library import Library
from emomc.search.config import SearchConfig
from emomc.search.evolution import Evolution
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Search

FILES = ("front.csv", "front.json")


class Recorder:
    """What a search ran over images, and who survived each generation."""

    def __init__(self, patch):
        self.jobs = []
        self.survivors = []
        self.validation_images = None
        evaluate, tell = CandidateEvaluator.evaluate, Evolution.tell

        def record_job(evaluator, genotype, *, previous=None, **options):
            self.validation_images = self.validation_images or evaluator.images
            result = evaluate(evaluator, genotype, previous=previous, **options)
            if evaluator.images == self.validation_images:
                self.jobs.append((genotype, previous, result))
            return result

        def record_survivors(evolution, losses, violations):
            tell(evolution, losses, violations)
            genes = evolution._algorithm.pop.get("X")
            self.survivors.append(genes[np.lexsort(genes.T)].tolist())

        patch.setattr(CandidateEvaluator, "evaluate", record_job)
        patch.setattr(Evolution, "tell", record_survivors)

    @property
    def begun_anew(self):
        return [genotype for genotype, previous, _ in self.jobs if previous is None]


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Skip the figures, which take longer than the search; the tests of the callbacks check them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.callbacks.search.front_writer.front_figure", lambda document: Figure((1, 1)))
        yield


@pytest.fixture
def recorder(monkeypatch):
    return Recorder(monkeypatch)


@pytest.fixture(scope="module")
def cold(copy_to, search, tmp_path_factory):
    """A search of a library without earlier searches."""
    library = copy_to(tmp_path_factory.mktemp("cold") / "run")
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(patch)
        result = search(library, [FrontWriter()], name="s")
    return result, recorder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def same_trajectory(one, other):
    assert [c.genotype for c in one.candidates] == [c.genotype for c in other.candidates]
    assert [c.generation for c in one.candidates] == [c.generation for c in other.candidates]


def brute_force_front(candidates, columns):
    """The non-dominated candidates among those evaluated on all images; of equal ones the first."""

    def losses(candidate):
        return (-candidate.evaluation.correct, *(candidate.costs[name] for name in columns))

    front, taken = [], set()
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


class TestFront:
    def test_is_the_non_dominated_set_of_everyone_measured(self, cold):
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
    def test_of_other_objectives(self, library, search, objectives, columns):
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


class TestSameFront:
    def test_the_same_seed_twice(self, cold, library, search):
        again = search(library, [FrontWriter()], name="another-name")
        assert contents(again.folder) == contents(cold[0].folder)
        assert (again.folder / LOG_FILE).read_bytes() == (cold[0].folder / LOG_FILE).read_bytes()
        assert (again.folder / "candidates.csv").read_bytes() == (cold[0].folder / "candidates.csv").read_bytes()

    def test_another_seed_differs(self, cold, copy_of_library, search):
        other = search(copy_of_library("other"), [FrontWriter()], seed=1)
        assert contents(other.folder) != contents(cold[0].folder)

    def test_without_early_rejection(self, cold, library, search, recorder):
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
    def test_without_early_rejection_in_other_settings(self, copy_of_library, search, settings):
        settings = {"objectives": ("accuracy", "energy", "size"), "quantizer": "mse", **settings}
        quick = search(copy_of_library("quick"), [FrontWriter()], **settings)
        full = search(copy_of_library("full"), [FrontWriter()], early_rejection=False, **settings)
        assert contents(quick.folder) == contents(full.folder)
        same_trajectory(quick, full)
        assert full.rejected == 0

    def test_with_a_warm_log_nothing_is_measured(self, cold, library, search, recorder):
        first = search(library, name="first")
        assert first.tally.measured == len(recorder.begun_anew)
        recorder.jobs.clear()
        second = search(library, [FrontWriter()], name="second")
        assert recorder.jobs == []
        assert (second.tally.measured, second.tally.images) == (0, 0)
        assert second.tally.reused == len(second.candidates)
        assert contents(second.folder) == contents(cold[0].folder)

    @pytest.mark.slow
    def test_with_a_log_of_another_search_that_is_half_warm(self, cold, library, search):
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

    def test_a_search_with_another_dataflow_reuses(self, library, search, recorder):
        first = search(library, name="first", dataflow="xy")
        second = search(library, name="second", dataflow="icoc", coding="csr", objectives=("accuracy", "size"))
        assert second.tally.reused > 0
        assert second.tally.measured + second.tally.reused == len(second.candidates)
        assert len(recorder.begun_anew) == len(set(recorder.begun_anew))
        assert len(recorder.begun_anew) == first.tally.measured + second.tally.measured

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


class TestConstraints:
    def test_are_met_by_the_front(self, library, search, recorder):
        result = search(library, size_constraint="9%")
        bound = 0.09 * result.uncompressed["size_kib"]
        assert all(point.costs["size_kib"] <= bound for point in result.front)
        over = [candidate for candidate in result.candidates if candidate.costs["size_kib"] > bound]
        assert over, "the bound must bind in this setting"
        # Candidates that violate a constraint are not evaluated if others meet it.
        assert not {candidate.genotype for candidate in over} & {genotype for genotype, _, _ in recorder.jobs}
        measured = [candidate for candidate in result.candidates if candidate.measured]
        assert result.front == brute_force_front(measured, ["energy_mj"])

    def test_do_not_spoil_early_rejection(self, copy_of_library, search):
        settings = {"size_constraint": "12%", "number_generations": 4}
        quick = search(copy_of_library("quick"), [FrontWriter()], **settings)
        full = search(copy_of_library("full"), [FrontWriter()], early_rejection=False, **settings)
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


class Interrupter(SearchCallback):
    """Sends Ctrl-C after a given number of evaluated candidates."""

    def __init__(self, after):
        self.left = after

    def on_candidate_end(self, search, candidate):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


class TestInterruption:
    @pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 17])
    def test_ctrl_c_writes_the_front_so_far_and_the_same_command_goes_on(self, cold, library, search, after):
        handler = signal.getsignal(signal.SIGINT)
        stopped = search(library, [Interrupter(after), FrontWriter()], name="s")
        assert signal.getsignal(signal.SIGINT) is handler
        assert not stopped.finished
        assert stopped.tally.measured == after
        assert json.loads((stopped.folder / "front.json").read_text())["finished"] is False
        assert stopped.front == brute_force_front([c for c in stopped.candidates if c.measured], ["energy_mj"])
        resumed = search(library, [FrontWriter()], name="s")
        assert resumed.finished
        assert resumed.tally.reused == after
        assert contents(resumed.folder) == contents(cold[0].folder)

    def test_ctrl_c_twice_ends_at_once(self, library, search):
        class Impatient(SearchCallback):
            def on_candidate_end(self, search, candidate):
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            search(library, [Impatient()])

    def test_killed_at_any_byte_of_the_log(self, cold, library, search):
        content = (cold[0].folder / LOG_FILE).read_bytes()
        generator = random.Random(0)
        cuts = [5, content.index(b"\n") + 1, *(generator.randrange(len(content)) for _ in range(1))]
        for number, cut in enumerate(cuts):
            folder = library.path.parent / "search" / f"cut{number}"
            folder.mkdir(parents=True)
            shutil.copy(cold[0].folder / "config.json", folder)
            (folder / LOG_FILE).write_bytes(content[:cut])
            # A cut-off writer leaves this beside its file.
            (folder / ".front.csv.1.partial").write_text("half")
            # Without the logs of the other rounds, which have all evaluations.
            result = search(library, [FrontWriter()], name=folder.name)
            assert contents(folder) == contents(cold[0].folder), cut
            assert result.tally.reused >= max(0, content[:cut].count(b"\n") - 1) // 2
            assert (folder / LOG_FILE).read_bytes() == content
            shutil.rmtree(folder)

    def test_time_that_is_up(self, cold, library, shared_library):
        config = SearchConfig(population_size=6, number_generations=5, quantizer="absmax", rounding="nearest")
        stopped = run_search(library, config, run=RunOptions(name="s", max_minutes=1e-6))
        assert not stopped.finished
        resumed = run_search(library, config, [FrontWriter()], run=RunOptions(name="s", max_minutes=60))
        assert resumed.finished
        assert contents(resumed.folder) == contents(cold[0].folder)


SCRIPT = """
import sys, torch
from lightning_fabric import Fabric
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.search.run import run_search
from emomc.search.state import Search
from emomc.search.observer import SearchCallback
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions

class Loud(SearchCallback):
    def on_candidate_end(self, search, candidate):
        print("candidate", flush=True)

torch.set_num_threads(1)
devices = int(sys.argv[2])
fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto")
fabric.launch()
config = SearchConfig(population_size=6, number_generations=5, quantizer="absmax", rounding="nearest")
search = run_search(sys.argv[1], config, [Loud(), FrontWriter()], RunOptions(name="s", fabric=fabric))
print("finished", search.finished, search.tally, flush=True)
if devices > 1:
    torch.distributed.destroy_process_group()
"""


@pytest.fixture
def start(tmp_path):
    """Start a search in a process of its own."""

    def run(library, devices, launcher=()):
        script = tmp_path / "search_script.py"
        script.write_text(SCRIPT)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, str(script), str(library.path), str(devices)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    return run


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(cold, library, start):
    generator = random.Random(1)
    folder = library.path.parent / "search" / "s"
    for _ in range(5):
        process = start(library, 1)
        for _ in range(generator.randrange(1, 12)):
            assert process.stdout.readline().startswith("candidate")
        # Not only right after a candidate.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(generator.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert not (folder / "front.csv").exists()
    process = start(library, 1)
    assert "finished True" in process.communicate()[0]
    assert contents(folder) == contents(cold[0].folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [(), ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")],
    ids=["launched by Fabric", "torchrun"],
)
def test_two_processes_find_the_front_of_one(cold, library, start, launcher):
    process = start(library, 2, launcher)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert output.count("finished True") >= 1
    folder = library.path.parent / "search" / "s"
    assert (folder / "front.csv").read_bytes() == (cold[0].folder / "front.csv").read_bytes()
    one, two = (json.loads((path / "front.json").read_text()) for path in (cold[0].folder, folder))
    assert one == two


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
    def test_algorithms_that_need_every_accuracy_get_it(self, library, search, algorithm):
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
    def test_other_settings_in_the_same_folder(self, library, search):
        search(library, name="s", number_generations=1)
        before = contents_of_all(library.path.parent)
        with pytest.raises(UserError, match=r"a search with number_generations = 2 in .*, found one with 1"):
            search(library, name="s", number_generations=2)
        assert contents_of_all(library.path.parent) == before
        again = search(library, name="s", number_generations=2, overwrite=True)
        assert again.generation == 2

    def test_other_versions_of_what_makes_the_evaluations(self, library, search, monkeypatch):
        search(library, name="s", number_generations=1)
        monkeypatch.setattr("emomc.search.run.versions", lambda: {"torch": "1.0"})
        with pytest.raises(UserError, match=r"evaluations made with \S+ .* in .*s/evaluations.jsonl, found"):
            search(library, name="s", number_generations=1)

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
