"""The watch over processes: threads that are connected like processes, and what each says when one is lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time

import pytest
from torch.distributed import HashStore

from emomc.common.errors import ProcessLost, UserError
from emomc.runtime import watch as module
from emomc.runtime.watch import Connection, Loss, Peer, Watch, watched

# No process has this number.
NOBODY = 2**22 + 1


class Started:
    """Watches of three processes in one; each notes what it would have said at its end."""

    def __init__(self, timeout_s: float) -> None:
        self.said: dict[int, str] = {}
        self.ended = [threading.Event() for _ in range(3)]
        pairs = {rank: socket.socketpair() for rank in (1, 2)}
        peers = [Peer(rank, NOBODY, f"machine{rank} a b") for rank in range(3)]
        firsts = [Connection(pairs[rank][0], rank) for rank in pairs]
        self.connections = {0: firsts, **{rank: [Connection(pairs[rank][1], 0)] for rank in pairs}}
        self.watches = [
            Watch(peers, rank, self.connections[rank], timeout_s, lambda line, rank=rank: self.end(rank, line))
            for rank in range(3)
        ]

    def start(self, *ranks: int) -> None:
        for rank in ranks:
            self.watches[rank].start()

    def end(self, rank: int, line: str) -> None:
        self.said[rank] = line
        # As the operating system does.
        for connection in self.connections[rank]:
            connection.close()
        self.ended[rank].set()

    def die(self, rank: int) -> None:
        """Close the connections without a word."""
        self.watches[rank]._leave_by = 0
        for connection in self.connections[rank]:
            # The thread itself may be faster.
            with contextlib.suppress(OSError):
                connection._socket.shutdown(socket.SHUT_RDWR)

    def wait_for(self, *ranks: int) -> list[str]:
        for rank in ranks:
            assert self.ended[rank].wait(10), f"rank {rank} did not end"
        return [self.said[rank] for rank in ranks]


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr(module, "_BEAT_S", 0.05)
    monkeypatch.setattr(module, "_GRACE_S", 0.3)
    runs = []

    def make(timeout_s: float) -> Started:
        runs.append(Started(timeout_s))
        return runs[-1]

    yield make
    for run in runs:
        for watch in run.watches:
            watch.leave(failed=False)
            if watch.ident is not None:
                watch.join(10)
        for connection in itertools.chain(*run.connections.values()):
            connection.close()


@pytest.mark.parametrize(("lost", "others"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
def test_all_others_end_when_one_does(start, lost, others):
    run = start(60)
    run.start(0, 1, 2)
    run.die(lost)
    expected = (
        f"expected every process to keep running, found rank {lost} (process {NOBODY} on machine{lost}) that ended: "
        "the same command goes on from here"
    )
    assert run.wait_for(*others) == [expected] * 2
    assert lost not in run.said


@pytest.mark.parametrize(("hung", "others"), [(0, (1, 2)), (2, (0, 1))])
def test_all_others_end_when_one_sends_no_beats(start, hung, others):
    run = start(0.6)
    run.start(*others)
    for line in run.wait_for(*others):
        assert f"found rank {hung} (process {NOBODY} on machine{hung}) that gave no sign of life for 0.01 min" in line


def test_beats_keep_a_long_work_alive(start):
    run = start(0.4)
    run.start(0, 1, 2)
    time.sleep(1)
    assert not run.said


def test_those_that_have_done_their_work_are_not_missed(start):
    run = start(0.4)
    run.start(0, 1, 2)
    run.watches[1].leave(failed=False)
    run.die(1)
    time.sleep(0.6)
    assert not run.said
    run.watches[0].leave(failed=False)
    run.watches[2].join(10)
    assert not run.said


def test_one_that_fails_has_the_time_to_say_why(start):
    run = start(60)
    run.start(0, 1, 2)
    began = time.monotonic()
    run.watches[2].leave(failed=True)
    for line in run.wait_for(0, 1):
        assert line == (
            f"expected every process to do its part, found rank 2 (process {NOBODY} on machine2) that failed: its own "
            "message says why"
        )
    assert time.monotonic() - began >= 0.3


def test_messages_arrive_whole_in_pieces():
    ours, theirs = socket.socketpair()
    connection = Connection(ours, 1)
    message = module._MESSAGE.pack(Loss.HUNG, 70_000)
    theirs.sendall(message + message[:2])
    assert connection.receive() == [(Loss.HUNG, 70_000)]
    theirs.sendall(message[2:])
    assert connection.receive() == [(Loss.HUNG, 70_000)]
    theirs.close()
    with pytest.raises(OSError):  # noqa: PT011 # whichever the system gives
        connection.receive()
    connection.close()


def enter(store, rank, error=None):
    with contextlib.suppress(UserError), watched(store, rank, 2, "127.0.0.1", 60):
        if error is not None:
            raise error


def test_processes_find_each_other_and_part(monkeypatch):
    ended = []
    monkeypatch.setattr(module, "end_process", ended.append)
    store = HashStore()
    other = threading.Thread(target=enter, args=(store, 1))
    other.start()
    enter(store, 0)
    other.join(10)
    assert not other.is_alive()
    assert not ended


def test_strangers_are_turned_away():
    server = socket.create_server(("127.0.0.1", 0))
    accepted = []
    thread = threading.Thread(target=lambda: accepted.extend(module._accept(server, b"t" * 16, 1)))
    thread.start()
    stranger = socket.create_connection(server.getsockname())
    stranger.sendall(module._HELLO.pack(b"x" * 16, 1))
    assert stranger.recv(1) == b""
    friend = socket.create_connection(server.getsockname())
    friend.sendall(module._HELLO.pack(b"t" * 16, 5))
    thread.join(10)
    assert [connection.rank for connection in accepted] == [5]
    for end in (server, stranger, friend, *accepted):
        end.close()


def test_one_that_is_not_reached_is_named(monkeypatch):
    monkeypatch.setattr(module, "_CONNECT_S", 0.2)
    store = HashStore()
    store.set("process 1", json.dumps([1, 5, "elsewhere  "]))
    with pytest.raises(ProcessLost, match="expected all 2 processes to reach each other, found: timed out"):
        enter(store, 0)
