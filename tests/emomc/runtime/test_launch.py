"""The number of devices and machines, and processes that are started here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning_fabric import Fabric
from torch.distributed import DistNetworkError

from emomc.common.errors import ProcessLost, UserError
from emomc.runtime.devices import Devices
from emomc.runtime.launch import launched, launcher_devices, make_fabric


class TestDevices:
    @pytest.mark.parametrize(
        ("asked", "found"),
        [((None, None), (1, 1)), (("auto", None), ("auto", 1)), ((3, 2), (3, 2)), (("0,", 1), ("0,", 1))],
    )
    def test_alone_they_are_those_asked_for(self, asked, found):
        assert launcher_devices(*asked, default=1) == found

    @pytest.mark.parametrize(
        ("asked", "found"), [((None, None), (2, 3)), (("auto", None), (2, 3)), ((4, None), (4, 3)), ((2, 1), (2, 1))]
    )
    def test_under_torchrun_what_is_open_follows_it(self, monkeypatch, asked, found):
        for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
            monkeypatch.setenv(name, value)
        assert launcher_devices(*asked, default=1) == found

    def test_what_lightning_refuses_is_one_line(self):
        with pytest.raises(UserError, match="expected settings that Lightning accepts, found"):
            make_fabric("abacus", 1, 1)

    @pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
    def test_processes_run_the_same_command(self, strategy):
        with pytest.raises(UserError, match=f"whose processes run the same command, such as ddp, found '{strategy}'"):
            Devices(strategy=strategy)

    @pytest.mark.parametrize("minutes", [0.0, -1.0])
    def test_a_timeout_is_a_time(self, minutes):
        with pytest.raises(UserError, match="a worker_timeout above 0 minutes"):
            Devices(worker_timeout=minutes)


def test_a_process_that_is_gone_at_the_start_is_no_setting_that_lightning_refuses(monkeypatch):
    fabric = Fabric(accelerator="cpu", devices=1)

    def launch():
        raise DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(fabric, "launch", launch)
    with pytest.raises(ProcessLost, match="expected every process to start, found one that ended"), launched(fabric):
        pass


def test_one_process_starts_no_other():
    with launched(Fabric(accelerator="cpu", devices=1)):
        assert "EMOMC_PARENT" not in os.environ


SCRIPT = """
import contextlib, os, sys
from pathlib import Path
import torch
from lightning_fabric import Fabric
from emomc.runtime.launch import launched

if os.environ.get("LOCAL_RANK") == sys.argv[1]:
    os.kill(os.getpid(), 9)

def links(pid):
    for link in list(Path(f"/proc/{pid}/fd").iterdir()):
        with contextlib.suppress(OSError):
            yield os.readlink(link)

def listening(pid):
    sockets = set(links(pid))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                yield words[1].split(":")[0]

fabric = Fabric(accelerator="cpu", devices=2)
with launched(fabric):
    addresses = sorted(set(listening(os.getpid())))
    fabric.barrier()
    print(fabric.global_rank, fabric.world_size, addresses, flush=True)
    fabric.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def run_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def run(killed: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script), killed]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment)

    return run


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the table of sockets of Linux")
def test_sockets_of_one_machine_listen_on_loopback_alone(run_script):
    done = run_script("none")
    assert done.returncode == 0, done.stderr
    first, second = sorted(line for line in done.stdout.splitlines() if line[:2] in ("0 ", "1 "))
    assert first == "0 2 ['0100007F']"
    assert second == "1 2 ['0100007F']"


@pytest.mark.slow
def test_one_that_ends_before_it_has_started_is_named(run_script):
    done = run_script("1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "script.py: error: expected every process to keep running, found rank 1 that ended: "
        "the same command goes on from here"
    )
    assert "Traceback" not in done.stderr
