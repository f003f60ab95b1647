"""The journal that processes share: threads with a store of one process, and real processes with a served one."""

from __future__ import annotations

import datetime
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from lightning_fabric import Fabric
from torch.distributed import HashStore, TCPStore

from emomc.common.errors import ProcessLost
from emomc.runtime.journal import OwnJournal, StoreJournal, open_journal


def test_a_process_alone_reads_what_it_wrote():
    journal = open_journal(Fabric(accelerator="cpu", devices=1))
    assert isinstance(journal, OwnJournal)
    assert (journal.rank, journal.world_size) == (0, 1)
    journal.write([1, 2])
    journal.write([3])
    assert (journal.read(), journal.read()) == ([1, 2], [3])


def test_all_read_every_entry_in_one_order():
    store = HashStore()

    def write_and_read(rank):
        journal = StoreJournal(store, rank, 4)
        for number in range(25):
            journal.write([rank, number])
        return [journal.read() for _ in range(100)]

    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(write_and_read, range(4))
    assert all(other == first for other in others)
    for rank in range(4):
        assert [number for writer, number in first if writer == rank] == list(range(25))


def test_a_reader_waits_for_a_writer_and_a_writer_for_nobody():
    store = HashStore()
    reader, writer = StoreJournal(store, 0, 2), StoreJournal(store, 1, 2)
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(reader.read)
        writer.write([7])
        writer.write([8])
        assert read.result(10) == [7]
    assert reader.read() == [8]


def test_one_that_waits_in_vain_is_told_so():
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=datetime.timedelta(seconds=1))
    with pytest.raises(ProcessLost, match=r"^expected every process to keep running, found one that ended or hangs$"):
        StoreJournal(store, 0, 2, patience=datetime.timedelta(seconds=1)).read()


def test_one_whose_store_is_gone_is_told_so():
    served = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    journal = StoreJournal(TCPStore("localhost", served.port), 1, 2)
    journal.write([1])
    del served
    with pytest.raises(ProcessLost, match="found one that ended"):
        journal.write([2])


SCRIPT = """
import torch
from lightning_fabric import Fabric
from emomc.runtime.journal import open_journal

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
journal = open_journal(fabric)
for number in range(2):
    journal.write([journal.rank, number])
entries = [journal.read() for _ in range(4)]
assert fabric.broadcast(entries) == entries
# The first process serves the store: it ends last.
fabric.barrier()
if fabric.is_global_zero:
    print(sorted(entries))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_of_fabric_share_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    printed = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[[0, 0], [0, 1], [1, 0], [1, 1]]"
