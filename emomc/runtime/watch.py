"""A watch over the processes of a run: when one ends early or hangs, all others end too and name it in one line.

Every process keeps a connection to the first one. A process that ends closes it, which the other side sees at once. A
process that hangs, or a machine that is cut off, stops to send its beats. The first process tells all others whom it
lost. They end at once, whatever they do: the main thread may wait in torch, which handles no signal and no error there.
What is on disk is whole at every moment, so that the same command goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import platform
import secrets
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from torch.distributed import Store  # type: ignore[attr-defined] # documented, not in __all__

from emomc.common.errors import ProcessLost, UserError

T = TypeVar("T")

_LOOPBACK = "127.0.0.1"
_BEAT_S = 1.0
# One that fails says why; the others often fail for the same reason, and shall have the time to say so.
_GRACE_S = 3.0
_CONNECT_S = 60.0
_TOKEN_BYTES = 16
_HELLO = struct.Struct(f"!{_TOKEN_BYTES}sI")
_MESSAGE = struct.Struct("!BI")


class Loss(enum.IntEnum):
    """Why a process is lost."""

    FAILED = 2
    """It ends with an error that it has shown."""
    ENDED = 3
    """It was killed, or ended without a word."""
    HUNG = 4
    """It has sent no beat for too long."""


# The other kinds of messages.
_BEAT, _LEFT = 0, 1


@dataclasses.dataclass(frozen=True)
class Peer:
    """A process of the run, and where it is."""

    rank: int
    pid: int
    host: str
    """Name of its machine, and the namespaces in which its number and its loopback address are valid."""

    @classmethod
    def own(cls, rank: int) -> Peer:
        """Return this process."""
        return cls(rank, os.getpid(), " ".join([platform.node(), _namespace("pid"), _namespace("net")]))

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host.split(' ')[0]})"


def _namespace(kind: str) -> str:
    """Return the identity of a Linux namespace of this process; empty elsewhere."""
    try:
        return str(Path(f"/proc/self/ns/{kind}").readlink())
    except OSError:
        return ""


class Connection:
    """Messages to and from another process: a kind, and the rank that it is about."""

    def __init__(self, sock: socket.socket, rank: int) -> None:
        """Talk through a connected socket; ``rank``: of the other process."""
        sock.settimeout(_BEAT_S)
        self.rank = rank
        self.heard = time.monotonic()
        """Time of the last message."""
        self._socket = sock
        self._unread = b""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def send(self, kind: int, rank: int) -> None:
        """Send a message; that the other has ended shows when the connection is read."""
        with contextlib.suppress(OSError):
            self._socket.sendall(_MESSAGE.pack(kind, rank))

    def receive(self) -> list[tuple[int, int]]:
        """Return the messages that have come.

        Raises:
            OSError: the other process has ended.
        """
        received = self._socket.recv(1024)
        if not received:
            raise ConnectionResetError
        self.heard = time.monotonic()
        text = self._unread + received
        whole = len(text) - len(text) % _MESSAGE.size
        self._unread = text[whole:]
        return list(_MESSAGE.iter_unpack(text[:whole]))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Watch(threading.Thread):
    """The thread of one process that sends its beats and listens to those of others."""

    def __init__(
        self,
        peers: Sequence[Peer],
        rank: int,
        connections: Sequence[Connection],
        timeout_s: float,
        end: Callable[[str], object],
    ) -> None:
        """Prepare the watch; ``start`` begins it.

        Args:
            peers: all processes, by rank.
            rank: of this process.
            connections: of the first process: to all others; of another: to the first.
            timeout_s: a process that sends nothing for so long hangs.
            end: called with one line when a process is lost; ends this process.
        """
        super().__init__(name="watch over processes", daemon=True)
        self.peers = peers
        self.rank = rank
        self._connections = {connection.rank: connection for connection in connections}
        self._timeout_s = timeout_s
        self._end = end
        self._failed: tuple[int, float] | None = None
        """Rank of a process that failed, and when this process must have ended."""
        self._sending = threading.Lock()
        self._leave_by: float | None = None
        """When the thread must have ended, once this process has left."""

    def run(self) -> None:
        """Watch until ``leave`` is called or a process is lost."""
        while self._goes_on():
            self._tell(_BEAT, self.rank)
            ready, _, _ = select.select([*self._connections.values()], [], [], min(_BEAT_S, self._timeout_s / 4))
            loss = self._read(ready) or self._overdue()
            if loss is not None and self._leave_by is None:
                self._give_up(*loss)
                break
        for rank in list(self._connections):
            self._drop(rank)

    def leave(self, *, failed: bool) -> None:
        """Stop watching, and tell the others that this process has done its work, or that it failed."""
        self._leave_by = time.monotonic() + 2 * _BEAT_S
        self._tell(Loss.FAILED if failed else _LEFT, self.rank)
        # The others close the connections. Closed here, with a beat that is not read, they would lose this message.
        if self.is_alive():
            self.join()

    def _goes_on(self) -> bool:
        if self._leave_by is not None:
            return bool(self._connections) and time.monotonic() < self._leave_by
        return bool(self._connections) or self._failed is not None

    def _drop(self, rank: int) -> None:
        """Close a connection."""
        with self._sending:
            self._connections.pop(rank).close()

    def _tell(self, kind: int, rank: int) -> None:
        with self._sending:
            for connection in self._connections.values():
                connection.send(kind, rank)

    def _read(self, ready: Sequence[Connection]) -> tuple[int, Loss] | None:
        """Read the messages that have come; return who is lost."""
        for connection in ready:
            try:
                messages = connection.receive()
            except OSError:
                self._drop(connection.rank)
                return connection.rank, Loss.ENDED
            for kind, rank in messages:
                if kind == _BEAT:
                    continue
                if rank != connection.rank or kind not in (_LEFT, Loss.FAILED):
                    # The first process says whom it lost.
                    return rank, Loss(kind)
                self._drop(rank)
                if kind == Loss.FAILED:
                    self._failed = self._failed or (rank, time.monotonic() + _GRACE_S)
                break
        return None

    def _overdue(self) -> tuple[int, Loss] | None:
        """Return who has sent nothing for too long, or who failed while this process works on."""
        now = time.monotonic()
        for connection in self._connections.values():
            if now - connection.heard > self._timeout_s:
                return connection.rank, Loss.HUNG
        if self._failed is not None and now > self._failed[1]:
            return self._failed[0], Loss.FAILED
        return None

    def _give_up(self, rank: int, loss: Loss) -> None:
        """Tell the others, end what hangs on this machine, and end this process."""
        if self.rank == 0:
            self._tell(loss, rank)
        if loss is Loss.HUNG:
            self._kill(rank)
        if self.rank == 0:
            self._await_end_of_others()
        self._end(self._message(rank, loss))

    def _message(self, rank: int, loss: Loss) -> str:
        who = str(self.peers[rank])
        if loss is Loss.FAILED:
            return f"expected every process to do its part, found {who} that failed: its own message says why"
        found = "ended" if loss is Loss.ENDED else f"gave no sign of life for {self._timeout_s / 60:g} minutes"
        return f"expected every process to keep running, found {who} that {found}: the same command goes on from here"

    def _await_end_of_others(self) -> None:
        """Give the others the time to end; kill those on this machine that do not."""
        end = time.monotonic() + _GRACE_S
        while self._connections and time.monotonic() < end:
            ready, _, _ = select.select([*self._connections.values()], [], [], 0.1)
            for connection in ready:
                try:
                    connection.receive()
                except OSError:
                    self._drop(connection.rank)
        for rank in self._connections:
            self._kill(rank)

    def _kill(self, rank: int) -> None:
        """Kill a process that has not ended, if it is on this machine: its connection shows that it is still there."""
        if self.peers[rank].host == self.peers[self.rank].host:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.peers[rank].pid, signal.SIGKILL)


def end_process(message: str) -> NoReturn:
    """End this process with one line and status 1, whatever its main thread does."""
    # The main thread may have begun a line; if it is stuck there, go on without it.
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)
    flush.start()
    flush.join(_BEAT_S)
    if sys.stdout.isatty():
        # A live table hides the cursor.
        os.write(1, b"\x1b[?25h\n")
    os.write(2, f"{Path(sys.argv[0]).name}: error: {message}\n".encode())
    os._exit(1)


@contextlib.contextmanager
def watched(store: Store, rank: int, world_size: int, main_address: str, timeout_s: float) -> Iterator[None]:
    """Watch over all processes while the block runs; every process must enter it.

    If another process ends before it leaves the block, this one ends with status 1 and one line.

    Args:
        store: empty, shared by all processes.
        rank: of this process.
        world_size: number of processes.
        main_address: where the first process listens if they are on several machines.
        timeout_s: a process that gives no sign of life for so long hangs.

    Raises:
        ProcessLost: another process did not come.
    """
    watch = Watch(*_connect(store, rank, world_size, main_address), timeout_s, end_process)
    watch.start()
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            # Perhaps torch failed since another process ended; then the watch knows, and ends this process too.
            watch.join(_GRACE_S + 2 * _BEAT_S)
        watch.leave(failed=True)
        raise
    watch.leave(failed=False)


def _connect(store: Store, rank: int, world_size: int, main_address: str) -> tuple[list[Peer], int, list[Connection]]:
    """Introduce the processes to each other; return them, the rank and the connections of this one."""
    store.set(f"process {rank}", json.dumps(dataclasses.astuple(Peer.own(rank))))
    peers = [Peer(*json.loads(store.get(f"process {other}"))) for other in range(world_size)]
    same_machine = len({peer.host for peer in peers}) == 1
    try:
        if rank == 0:
            with _server(_LOOPBACK if same_machine else main_address) as server:
                token = secrets.token_bytes(_TOKEN_BYTES)
                store.set("watch", json.dumps([server.getsockname()[1], token.hex()]))
                return peers, rank, _accept(server, token, world_size - 1)
        port, shown = json.loads(store.get("watch"))
        sock = socket.create_connection((_LOOPBACK if same_machine else main_address, port), timeout=_CONNECT_S)
        sock.sendall(_HELLO.pack(bytes.fromhex(shown), rank))
    except OSError as error:
        raise ProcessLost(f"expected all {world_size} processes to reach each other, found: {error}") from error
    return peers, rank, [Connection(sock, 0)]


def _server(address: str) -> socket.socket:
    """Return a socket that listens at an address of this machine, at any port."""
    family, _, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
    try:
        return socket.create_server(place[:2], family=family)
    except OSError:
        # The address leads here from elsewhere, but no interface has it, as in a container behind a service.
        return socket.create_server(("", 0))


def _accept(server: socket.socket, token: bytes, count: int) -> list[Connection]:
    """Accept the connections of the other processes; those who do not know the token are turned away."""
    connections: list[Connection] = []
    end = time.monotonic() + _CONNECT_S
    while len(connections) < count:
        server.settimeout(max(0.1, end - time.monotonic()))
        sock, _ = server.accept()
        sock.settimeout(_BEAT_S)
        try:
            shown, rank = _HELLO.unpack(sock.recv(_HELLO.size, socket.MSG_WAITALL))
        except (OSError, struct.error):
            shown, rank = b"", 0
        if secrets.compare_digest(shown, token):
            connections.append(Connection(sock, rank))
        else:
            sock.close()
    return connections
