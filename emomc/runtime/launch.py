"""Start of the processes of a run: their number, who starts them, and the watch over them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch.distributed import TCPStore  # type: ignore[attr-defined] # documented, not in __all__

from emomc.runtime.devices import WORKER_TIMEOUT_MINUTES
from emomc.runtime.lightning_refusals import lightning_refusals
from emomc.runtime.shared_store import lost_connections, open_shared_store
from emomc.runtime.watch import end_process, watched

# Names the process that started this one, if it was started here.
_PARENT = "EMOMC_PARENT"
_POLL_S = 0.2
_AGAIN = "the same command goes on from here"


def launcher_devices(devices: str | int | None, num_nodes: int | None, default: str | int) -> tuple[str | int, int]:
    """Return the devices and the number of machines; under torchrun, what is open follows what it started.

    An elastic torchrun goes on with fewer or more machines than it began with.

    Args:
        devices: as for Lightning; open if None or auto.
        num_nodes: number of machines; open if None.
        default: devices if they are open and there is no torchrun.
    """
    if TorchElasticEnvironment.detect():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // here
        return here if devices in (None, "auto") else devices, nodes if num_nodes is None else num_nodes
    return default if devices is None else devices, 1 if num_nodes is None else num_nodes


def make_fabric(
    accelerator: str, devices: str | int | None, num_nodes: int | None, default: str | int = "auto"
) -> Fabric:
    """Return a Fabric of the given devices, not yet launched; the arguments are those of ``launcher_devices``.

    Raises:
        UserError: Lightning refuses them.
    """
    devices, num_nodes = launcher_devices(devices, num_nodes, default)
    with lightning_refusals():
        return Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes)


@contextlib.contextmanager
def launched(fabric: Fabric, worker_timeout_minutes: float = WORKER_TIMEOUT_MINUTES) -> Iterator[None]:
    """Start the other processes of a run, unless a launcher has done so, and watch over all while the block runs.

    The others run the same command. If one of them ends early or hangs, all end, with status 1 and one line.

    Args:
        fabric: says how many processes there are on how many machines.
        worker_timeout_minutes: a process that gives no sign of life for so long hangs.

    Raises:
        ProcessLost: another process ended before all had started.
        UserError: Lightning refuses the number of devices or machines.
    """
    gone = f"expected every process to start, found one that ended: {_AGAIN}"
    with _started(fabric), lightning_refusals(), lost_connections(gone):
        fabric.launch()
    if fabric.world_size == 1:
        yield
        return
    store, address = open_shared_store(fabric), os.environ["MASTER_ADDR"]
    with (
        _ended_with_torchrun(),
        watched(store, fabric.global_rank, fabric.world_size, address, 60 * worker_timeout_minutes),
    ):
        yield


def _ended_with_torchrun() -> contextlib.AbstractContextManager[None]:
    """Return a block that ends this process if the torchrun that started it ends first."""
    if not TorchElasticEnvironment.detect():
        return contextlib.nullcontext()
    parent = os.getppid()
    return _ended_with(lambda: f"its torchrun (process {parent})" if os.getppid() != parent else None)


@contextlib.contextmanager
def _started(fabric: Fabric) -> Iterator[None]:
    """Start the other processes of this machine if nobody has; end with them if they end before the block does.

    Lightning's own launcher kills the first process when another ends, before it can say which.
    """
    environment = getattr(fabric.strategy, "cluster_environment", None)
    processes = getattr(fabric.strategy, "num_processes", 1)
    nodes = getattr(fabric.strategy, "num_nodes", 1)
    if isinstance(environment, LightningEnvironment) and processes > 1 and not environment.creates_processes_externally:
        store = _loopback_store() if nodes == 1 else None
        others = _start(environment, processes, nodes)
        with _ended_with(lambda: _first_ended(others), others):
            yield
        del store
    elif _PARENT in os.environ:
        parent = int(os.environ[_PARENT])
        with _ended_with(lambda: f"the first (process {parent})" if os.getppid() != parent else None):
            yield
    else:
        yield


def _loopback_store() -> TCPStore:
    """Serve the store with which the processes of one machine find each other, at an address of this machine alone.

    torch joins a store that this process serves already; its own would listen at all addresses.
    """
    address = os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    server = socket.create_server((address, int(os.environ.get("MASTER_PORT", "0"))))
    port = server.getsockname()[1]
    os.environ["MASTER_PORT"] = str(port)
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if loopback is not None and address.startswith("127."):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    return TCPStore(
        address, port, is_master=True, wait_for_workers=False, multi_tenant=True, master_listen_fd=server.detach()
    )


def _start(environment: LightningEnvironment, processes: int, nodes: int) -> list[subprocess.Popen[bytes]]:
    """Run this command again in the other processes of this machine, with the variables that Lightning reads."""
    os.environ |= {
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": str(environment.node_rank()),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(processes * nodes),
    }
    command = [sys.executable, *sys.orig_argv[1:]]
    return [
        subprocess.Popen(command, env={**os.environ, "LOCAL_RANK": str(rank), _PARENT: str(os.getpid())})
        for rank in range(1, processes)
    ]


def _first_ended(others: Sequence[subprocess.Popen[bytes]]) -> str | None:
    return next((f"rank {rank}" for rank, other in enumerate(others, 1) if other.poll() is not None), None)


@contextlib.contextmanager
def _ended_with(lost: Callable[[], str | None], others: Sequence[subprocess.Popen[bytes]] = ()) -> Iterator[None]:
    """End this process, and the others, once ``lost`` names one that ended while the block runs.

    The main thread may wait for it in torch for half an hour, without handling signals.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(_POLL_S):
            if (name := lost()) is not None:
                for other in others:
                    other.kill()
                end_process(f"expected every process to keep running, found {name} that ended: {_AGAIN}")

    threading.Thread(target=look, daemon=True, name="start of processes").start()
    try:
        yield
    except BaseException:
        for other in others:
            other.kill()
        raise
    finally:
        over.set()
