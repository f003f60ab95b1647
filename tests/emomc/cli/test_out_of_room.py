"""A full disk, too little memory, no device or no free folder: one line, and earlier results are kept."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import fx, nn

from emomc.candidates.image_order import ORDER_FILE
from emomc.common.files import folder_lock
from emomc.common.run_folder import RunFolder
from emomc.library.library import Library

TINY = ("--accelerator", "cpu", "--pre_train_epochs", 1, "--pre_prune_epochs", 1, "--pre_prune_step", 60)
SEARCH = ("--accelerator", "cpu", "--population_size", 4, "--max_bits", 4, "--number_generations", 2)
SEARCH += ("--rounding", "nearest", "--name", "s")
# What it measures of a library is larger than its other files.
LEARNED = (*SEARCH, "--rounding", "learned")


@pytest.fixture
def library(library):
    """A library that no search has measured, so that the first thing that a search does needs memory and room."""
    shutil.rmtree(RunFolder.of_library(library.path).calibration)
    (library.path / ORDER_FILE).unlink()
    return library


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the size of files, so that writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_line(ran, command, *words):
    assert ran.status == 2, ran
    (line,) = ran.err.splitlines()
    assert line.startswith(f"emomc-{command}: error: expected ")
    assert ", found" in line
    assert all(word in line for word in words), line


def leftovers(folder):
    return [path.name for path in folder.rglob("*.partial")]


@pytest.mark.parametrize("size", [pytest.param(100, marks=pytest.mark.slow), 230_000])
def test_pretrain_on_a_full_disk(run, tmp_path, size):
    with files_of_at_most(size):
        one_line(run("pretrain", *TINY, "--output", tmp_path / "run"), "pretrain", "to write", "File too large")
    assert leftovers(tmp_path) == []
    # All files are complete: with free space, the same command continues.
    assert run("pretrain", *TINY, "--output", tmp_path / "run").status == 0
    library = Library.open(tmp_path / "run" / "library")
    assert library.levels == (100, 80, 20)
    assert all(library.load_state(percent) for percent in library.levels)


@pytest.mark.parametrize("size", [pytest.param(300, marks=pytest.mark.slow), 20_000])
def test_search_on_a_full_disk(run, library, size):
    with files_of_at_most(size):
        one_line(run("search", "--library", library.path, *LEARNED), "search", "to write", "File too large")
    assert leftovers(library.path.parent) == []
    assert run("search", "--library", library.path, *LEARNED).status == 0
    assert json.loads((library.path.parent / "search" / "s" / "front.json").read_text())["finished"] is True


@pytest.mark.parametrize("format", ["emomc", pytest.param("torch", marks=pytest.mark.slow)])
def test_export_on_a_full_disk(run, searched, tmp_path, format):
    arguments = ("--run", searched, "--format", format, "--output", tmp_path / "net")
    with files_of_at_most(1000):
        one_line(run("export", *arguments), "export", "to write", "File too large")
    assert not (tmp_path / "net").exists()
    assert leftovers(tmp_path) == []
    assert run("export", *arguments).status == 0


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_output_where_no_folder_can_be(refused, tmp_path, where):
    (tmp_path / "file").write_text("a regular file")
    refused("pretrain", *TINY, "--output", tmp_path / where, words=f"to write .*{where}, found: (Not a|File exists)")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_output_in_a_folder_that_is_read_only(refused, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    refused("pretrain", *TINY, "--output", tmp_path / "closed" / "run", words="to write .*, found: Permission denied")


def test_pretrain_in_a_folder_in_use(refused, library):
    with folder_lock(library.path.parent):
        refused("pretrain", *TINY, "--output", library.path.parent, words=f"in use by process {os.getpid()}")


def test_search_in_a_folder_in_use(refused, library):
    with folder_lock(library.path.parent / "search" / "s"):
        refused("search", "--library", library.path, *SEARCH, words=f"in use by process {os.getpid()}")


@pytest.mark.parametrize("command", ["pretrain", "search"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--accelerator", "tpu"), "xla"),
        pytest.param(
            ("--accelerator", "gpu"),
            "gpu|GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (("--accelerator", "gpu", "--devices", 99), "99|gpu|GPU"),
        (("--devices", "one"), "devices.*int > 0"),
        (("--devices", "-3"), "devices.*int > 0"),
    ],
)
def test_devices_that_are_not_there(refused, library, command, arguments, words):
    own = ("--library", library.path, *SEARCH) if command == "search" else TINY
    refused(command, *own, *arguments, words=words)


ERRORS = {
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
    "GPU": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"),
    "Python": MemoryError(),
}


@contextmanager
def memory_for_batches_of(most: int, error: Exception) -> Iterator[None]:
    """Let linear layers, and candidates, fail on larger batches."""
    call = nn.Module.__call__

    def limited(self, *arguments, **named):
        limits = isinstance(self, (nn.Linear, fx.GraphModule)) and type(arguments[0]) is torch.Tensor
        if limits and len(arguments[0]) > most:
            raise error
        return call(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "__call__", limited)
        yield


@pytest.mark.parametrize(
    "where", ["GPU", *(pytest.param(where, marks=pytest.mark.slow) for where in ("CPU", "Python"))]
)
def test_pretrain_out_of_memory(run, tmp_path, where):
    arguments = ("pretrain", *TINY, "--output", tmp_path / "run")
    with memory_for_batches_of(100, ERRORS[where]):
        one_line(run(*arguments), "pretrain", "memory for training with batches of 256 images", "--batch_size")
        assert run(*arguments, "--batch_size", 50).status == 0


@pytest.mark.parametrize(
    "where", [where if where == "CPU" else pytest.param(where, marks=pytest.mark.slow) for where in ERRORS]
)
def test_search_out_of_memory(run, library, where):
    own = ("--learning_rate", 0.005, "--pre_train_epochs", 2, "--pre_prune_epochs", 1, "--pre_prune_step", 30)
    smaller = ("--output", library.path.parent, *own, "--batch_size", 64, "--evaluation_batch_size", 32)
    with memory_for_batches_of(50, ERRORS[where]):
        ran = run("search", "--library", library.path, *SEARCH)
        one_line(ran, "search", "memory for evaluating batches of 64 images", "--evaluation_batch_size")
        before = library.manifest
        ran = run("pretrain", *smaller, "--accelerator", "cpu")
        assert ran.status == 0, ran
        assert "batches of 32 images from now on, not of 64" in ran.err
        after = Library.open(library.path).manifest
        assert (after.levels, after.evaluation_batch_size) == (before.levels, 32)
        assert run("search", "--library", library.path, *SEARCH).status == 0


def test_search_out_of_memory_half_way(run, searched):
    log = searched / "search" / "s" / "evaluations.jsonl"
    measured = log.read_bytes()
    with memory_for_batches_of(50, ERRORS["GPU"]):
        more = ("--library", searched / "library", *SEARCH[:-2], "--name", "t", "--seed", 1)
        one_line(run("search", *more), "search", "batches of 64 images")
    assert log.read_bytes() == measured
