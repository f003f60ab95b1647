"""A search that is stopped, killed or run by several processes ends with the same front."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.common.run_folder import LOG_FILE
from emomc.search.config import SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search


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
    def test_ctrl_c_writes_the_front_so_far_and_the_same_command_goes_on(
        self, cold, library, search, contents, brute_force_front, after
    ):
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

    def test_killed_at_any_byte_of_the_log(self, cold, library, search, contents):
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

    def test_time_that_is_up(self, cold, library, contents):
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
def test_killed_at_random_moments_it_ends_with_the_same_bytes(cold, library, start, contents):
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
