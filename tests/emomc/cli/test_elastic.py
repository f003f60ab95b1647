"""An elastic torchrun on two machines, which are both this one: one is lost, the search goes on with the other."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emomc.fronts.front_file import read_front

pytestmark = pytest.mark.slow

SECONDS = 240
SEARCH = ("--population_size", "8", "--number_generations", "40", "--accelerator", "cpu", "--quiet")
FIRST, SECOND = "10.97.31.1", "10.97.31.2"


def search(library: Path, name: str, *more: object) -> list[str]:
    return ["-m", "emomc.cli.search", "--library", str(library), "--name", name, *SEARCH, *map(str, more)]


@contextlib.contextmanager
def machine(
    number: int, library: Path, address: str, port: int, prefix: tuple[str, ...] = (), **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run torchrun as one of two machines; the first holds what they agree on."""
    words = [
        *["--nnodes=1:2", "--nproc_per_node=1", "--max-restarts=3", "--rdzv_backend=c10d", "--rdzv_id=run"],
        *[f"--rdzv_endpoint={address}:{port}", f"--rdzv_conf=last_call_timeout=3,is_host={int(number == 0)}"],
    ]
    if prefix:
        words.append(f"--local-addr={(FIRST, SECOND)[number]}")
    process = subprocess.Popen(
        [
            *prefix,
            sys.executable,
            "-m",
            "torch.distributed.run",
            *words,
            *search(library, "s", "--worker_timeout", 0.2),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_at_work(process: subprocess.Popen[str], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while not (log.exists() and log.read_bytes().count(b"\n") > 20):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def check_front(library: Path) -> None:
    """Compare the front with that of one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *search(library, "alone")], env=environment, check=True, timeout=SECONDS)
    fronts = [read_front(library.parent / "search" / name) for name in ("s", "alone")]
    assert fronts[0]["finished"] is True
    assert fronts[0]["points"] == fronts[1]["points"]


def test_one_torchrun_is_killed(library):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with machine(0, library.path, "127.0.0.1", port) as first, machine(1, library.path, "127.0.0.1", port) as second:
        wait_until_at_work(first, library.path.parent / "search" / "s" / "evaluations.jsonl")
        second.send_signal(signal.SIGKILL)
        said = first.communicate(timeout=SECONDS)[1]
        assert first.returncode == 0, said
    # The process of the torchrun that was killed ended too, and by that the other was told.
    assert "that ended: the same command goes on from here" in said
    check_front(library.path)


@pytest.fixture
def two_networks():
    """Two network namespaces that a cable connects."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root makes network namespaces, with ip")
    names, ends = ("emomc-a", "emomc-b"), ("veth-ea", "veth-eb")

    def ip(*words: str) -> bool:
        return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0

    try:
        made = all(ip("netns", "add", name) for name in names)
        made = made and ip(
            *f"link add {ends[0]} netns {names[0]} type veth peer name {ends[1]} netns {names[1]}".split()
        )
        for name, end, address in zip(names, ends, (FIRST, SECOND), strict=True):
            made = made and ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            made = made and all(ip("-n", name, "link", "set", link, "up") for link in ("lo", end))
        if not made:
            pytest.skip("this system makes no network namespaces")
        yield names, ends
    finally:
        for name in names:
            ip("netns", "del", name)


def test_one_machine_is_cut_off(library, two_networks):
    names, ends = two_networks
    prefixes = [("ip", "netns", "exec", name) for name in names]
    machines = [
        machine(number, library.path, FIRST, 29400, prefixes[number], GLOO_SOCKET_IFNAME=ends[number])
        for number in (0, 1)
    ]
    with machines[0] as first, machines[1]:
        wait_until_at_work(first, library.path.parent / "search" / "s" / "evaluations.jsonl")
        subprocess.run(["ip", "-n", names[1], "link", "set", ends[1], "down"], check=True)
        said = first.communicate(timeout=SECONDS)[1]
        assert first.returncode == 0, said
    assert "that gave no sign of life for 0.2 minutes" in said
    check_front(library.path)
