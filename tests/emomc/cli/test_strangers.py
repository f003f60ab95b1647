"""An untrusted library is safe: code runs only if the command line names it, and nothing is downloaded."""

from __future__ import annotations

import json
import shutil
import socket

import pytest

from emomc.common.errors import UserError
from emomc.common.run_folder import RunFolder
from emomc.library.library import Library
from emomc.search.config import SearchConfig
from emomc.search.run import run_search


@pytest.fixture
def offline(monkeypatch):
    """Refuse every connection."""

    def refuse(*arguments):
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


EVIL = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
from torch import nn
from pytorch_lightning import LightningDataModule

class Net(nn.Linear):
    pass

class Data(LightningDataModule):
    num_classes = 10
"""


@pytest.fixture(params=["file", "module"])
def evil(request, tmp_path, monkeypatch):
    """A module that writes a file when it runs, and that file."""
    mark = tmp_path / "mark"
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "evil_code.py").write_text(EVIL.replace("{mark!r}", repr(str(mark))))
    monkeypatch.chdir(folder)
    return (f"{folder}/evil_code.py" if request.param == "file" else "evil_code"), mark


def rewrite(library: Library, **values: object) -> None:
    file = library.path / "library.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("digest", [None, "0" * 64])
@pytest.mark.parametrize("what", ["network", "data"])
def test_a_library_that_names_code_runs_none(run, library, evil, what, digest, offline):
    where, mark = evil
    shutil.rmtree(RunFolder.of_library(library.path).calibration)
    if what == "network":
        rewrite(library, network=f"{where}:Net", network_source_sha256=digest)
    else:
        rewrite(library, data={**library.manifest.data, "dataset": f"{where}:Data"}, data_source_sha256=digest)
    stranger = Library.open(library.path)
    with pytest.raises(UserError, match=f"expected --{'network' if what == 'network' else 'dataset'} .*found no"):
        run_search(stranger, SearchConfig(population_size=4, number_generations=1, max_bits=4))
    ran = run("search", "--library", library.path, "--population_size", 4, "--number_generations", 1, "--max_bits", 4)
    assert ran.status == 2
    assert f"--{'network' if what == 'network' else 'dataset'}" in ran.err
    assert not mark.exists()
    assert not (library.path.parent / "search").exists()
    assert not RunFolder.of_library(library.path).calibration.exists()


def test_other_code_than_that_which_made_the_library_is_refused(run, library, evil):
    where, _ = evil
    rewrite(library, network=f"{where}:Net", network_source_sha256="0" * 64, graph_sha256=None)
    ran = run("search", "--library", library.path, "--network", f"{where}:Net")
    assert ran.status == 2
    assert "with another source" in ran.err


def test_both_commands_work_without_a_network(run, tmp_path, offline):
    tiny = ("--pre_train_epochs", 1, "--pre_prune_epochs", 1, "--pre_prune_step", 60, "--accelerator", "cpu")
    assert run("pretrain", *tiny, "--output", tmp_path / "run").status == 0
    search = (
        "--library",
        tmp_path / "run" / "library",
        "--population_size",
        4,
        "--number_generations",
        1,
        "--max_bits",
        4,
        "--rounding",
        "nearest",
    )
    assert run("search", *search, "--accelerator", "cpu").status == 0


def test_a_library_does_not_say_where_data_are_downloaded_to(run, library, tmp_path, offline):
    elsewhere = tmp_path / "elsewhere"
    rewrite(library, data={**library.manifest.data, "dataset": "mnist", "data_dir": str(elsewhere)})
    ran = run("search", "--library", library.path, "--population_size", 4, "--number_generations", 1, "--max_bits", 4)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert f"expected mnist in {elsewhere}, as the library says, found none: name a folder with --data_dir" in ran.err
    assert not elsewhere.exists()


def test_names_that_a_terminal_would_act_on(run, copy_of_library):
    library = copy_of_library("[red]run[/x]")
    ran = run(
        "search",
        "--library",
        library.path,
        "--population_size",
        4,
        "--number_generations",
        1,
        "--max_bits",
        4,
        "--rounding",
        "nearest",
        "--layers",
        "pick",
    )
    assert ran.status == 0, ran
    assert "[red]run[/x]/search" in ran.out
    rewrite(library, class_names=["\x1b[31mred", *library.manifest.class_names[1:]])
    ran = run("search", "--library", library.path, "--population_size", 4, "--number_generations", 1, "--max_bits", 4)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert "a text with control characters" in ran.err
    assert "\x1b" not in ran.err
