"""Networks of users go through all three commands and all formats, or are refused in one line before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from emomc.common.user_code import load_object

SOURCE = Path(__file__).parents[2] / "users_networks.py"
EQUAL, REFUSED, NOT_IN_C, Base = (
    load_object(f"{SOURCE}:{name}", "networks") for name in ("EQUAL", "REFUSED", "NOT_IN_C", "Base")
)
CPU = ("--accelerator", "cpu")
TINY = (*CPU, "--pre_train_epochs", 1, "--pre_prune_epochs", 1, "--pre_prune_step", 60, "--batch_size", 64)
SEARCH = (*CPU, "--population_size", 4, "--number_generations", 1, "--max_bits", 4)
SEARCH += ("--rounding", "nearest", "--name", "s")


@pytest.mark.parametrize(
    "name",
    [
        # Every form of each is compared in the tests of export.
        pytest.param(name, marks=pytest.mark.slow)
        for name in (*(network.__name__ for network in EQUAL), "Named")
    ],
)
def test_through_all_commands(run, tmp_path, name):
    network = ("--network", f"{SOURCE}:{name}")
    named = ("--network_output", "scores") if name == "Named" else ()
    folder = tmp_path / "run"
    ran = run("pretrain", *TINY, *network, *named, "--output", folder)
    assert ran.status == 0, ran
    ran = run("search", *SEARCH, *network, "--library", folder / "library")
    assert ran.status == 0, ran
    in_c = ("c",) if shutil.which("cc") and name not in NOT_IN_C else ()
    for format in ("emomc", "onnx", "torch", *in_c):
        arguments = ("--format", format, "--output", tmp_path / f"net.{format}", "--verify")
        ran = run("export", "--run", folder, *network, *arguments)
        assert ran.status == 0, ran
        assert "as the front says" in ran.out
    assert (
        run(
            "export", "--run", folder, *network, "--format", "onnx", "--target", "zigzag", "--output", tmp_path / "z"
        ).status
        == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_IN_C)
def test_what_cannot_be_written_in_c_is_said_and_nothing_is_written(run, tmp_path, name):
    network, folder = ("--network", f"{SOURCE}:{name}"), tmp_path / "run"
    assert run("pretrain", *TINY, *network, "--output", folder).status == 0
    assert run("search", *SEARCH, *network, "--library", folder / "library").status == 0
    ran = run("export", "--run", folder, *network, "--format", "c", "--output", tmp_path / "out" / "net.c")
    assert ran.status == 2
    assert ran.err.strip().endswith(f"expected operations that can be written in C, found {NOT_IN_C[name]}")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("network", REFUSED, ids=lambda network: network.__name__)
def test_refused_before_any_work(refused, network):
    refused("pretrain", *TINY, "--network", f"{SOURCE}:{network.__name__}", words=REFUSED[network])


def test_a_changed_comment_locks_nothing_a_changed_computation_does(run, refused, tmp_path):
    source = tmp_path / "net.py"
    source.write_text(SOURCE.read_text())
    network = ("--network", f"{source}:Viewed")
    folder = tmp_path / "run"
    assert run("pretrain", *TINY, *network, "--output", folder).status == 0
    source.write_text(source.read_text() + "\n# Another comment.\n")
    assert run("search", *SEARCH, *network, "--library", folder / "library").status == 0
    assert run("pretrain", *TINY, *network, "--output", folder).status == 0
    stem = "self.first_norm(self.first(images)).relu()"
    source.write_text(source.read_text().replace(stem, f"{stem} * 2"))
    search = (*SEARCH[:-1], "t", *network, "--library", folder / "library")
    refused("search", *search, words="another computation")
    refused("pretrain", *TINY, *network, "--output", folder, words="another computation")


def test_weights_that_fit_in_part_are_loaded_and_the_others_named(run, tmp_path):
    weights = Base().state_dict()
    weights["head.weight"] = torch.zeros(1000, 8)
    del weights["head.bias"]
    torch.save(weights, tmp_path / "weights.pt")
    arguments = ("pretrain", *TINY, "--network", f"{SOURCE}:Base", "--weights", tmp_path / "weights.pt")
    ran = run(*arguments, "--output", tmp_path / "run")
    assert ran.status == 0, ran
    assert "head.weight (of shape (1000, 8) in the file), head.bias (not in the file)" in ran.err
    ran = run(*arguments, "--weights_strict", "true", "--output", tmp_path / "strict")
    assert ran.status == 2
    assert not (tmp_path / "strict").exists()
