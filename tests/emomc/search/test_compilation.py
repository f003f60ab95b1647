"""Candidates that run through a compiled graph: the same answers, said so, and never in place of the others unsaid."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.cli.export import main as export
from emomc.common.errors import UserError, UserNote
from emomc.runtime.compilation import CompiledNetwork
from emomc.search import compilation
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

CONFIG = SearchConfig(
    population_size=4,
    number_generations=2,
    quantizer="absmax",
    rounding="nearest",
    bias_correction=False,
)

pytestmark = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler is found")


def searched(library, name, mode="always", **settings):
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
    config = dataclasses.replace(CONFIG, compile=mode, **settings)
    return run_search(library, config, [FrontWriter()], RunOptions(name=name, fabric=fabric))


def log(search):
    header, *lines = (json.loads(line) for line in search.files.log.read_text().splitlines())
    return header["conditions"], lines


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(16, id="whole activations"),
        pytest.param(4, id="activations of 4 bits", marks=pytest.mark.slow),
    ],
)
def pair(request, copy_to, tmp_path_factory):
    """The same search, compiled and not."""
    library = copy_to(tmp_path_factory.mktemp("compiled") / "run")
    bits = request.param
    return [searched(library, mode, mode, activation_bits=bits) for mode in ("never", "always")]


def test_counts_are_those_of_the_network_as_it_is(pair):
    (_, plain), (_, compiled) = map(log, pair)
    assert [line["bits"] for line in compiled] == [line["bits"] for line in plain]
    for one, other in zip(plain, compiled, strict=True):
        assert abs(one["correct"] - other["correct"]) <= 1


def test_how_it_ran_is_recorded_and_keeps_evaluations_apart(pair):
    for search, mode in zip(pair, (False, True), strict=True):
        assert json.loads((search.folder / "front.json").read_text())["compiled"] is mode
        assert log(search)[0].get("compiled", False) is mode
        assert search.tally.reused == 0


def test_an_export_is_verified_as_the_search_ran(pair, tmp_path, capsys, monkeypatch):
    used = []
    forward = CompiledNetwork.forward
    monkeypatch.setattr(CompiledNetwork, "forward", lambda self, images: used.append(1) or forward(self, images))
    words = ["--run", str(pair[1].files.run.path), "--search", "always", "--output", str(tmp_path / "net.emomc")]
    assert export([*words, "--verify"]) == 0
    assert used
    assert "as the front says" in capsys.readouterr().out


def test_again_gives_the_same_bytes(pair):
    first = pair[1]
    written = {name: (first.folder / name).read_bytes() for name in ("front.json", "evaluations.jsonl")}
    again = run_search(
        first.library,
        first.config,
        [FrontWriter()],
        RunOptions(name="always", overwrite=True, fabric=Fabric(accelerator="cpu", devices=1)),
    )
    assert {name: (again.folder / name).read_bytes() for name in written} == written


def test_batches_of_another_size_run_as_they_are():
    network = torch.nn.Linear(3, 2).eval().requires_grad_(False)
    compiled = CompiledNetwork(network, 4)
    compiled._compiled = None
    assert torch.equal(compiled(torch.ones(3, 3)), network(torch.ones(3, 3)))


def test_new_weights_are_used_without_compiling_again():
    network = torch.nn.Linear(3, 2).eval().requires_grad_(False)
    compiled = CompiledNetwork(network, 4)
    images = torch.randn(4, 3)
    with torch.inference_mode():
        compiled(images)
        with torch.compiler.set_stance("fail_on_recompile"):
            for value in (0.5, 2.0):
                network.weight.data.fill_(value)
                torch.testing.assert_close(compiled(images), network(images))


class TestWithoutACompiler:
    @pytest.fixture(autouse=True)
    def broken(self, monkeypatch):
        def fail(self, images):
            raise RuntimeError("no working compiler\nand more")

        monkeypatch.setattr(CompiledNetwork, "forward", fail)

    def test_a_search_that_would_gain_says_why_it_does_not(self, library, monkeypatch):
        monkeypatch.setattr(compilation, "_WORTH_COMPILING", 0)
        with pytest.warns(UserNote, match="not compiled, which would be faster: .*no working compiler"):
            found = searched(library, "auto", "auto")
        assert not found.compiled
        assert "compiled" not in log(found)[0]

    def test_one_that_must_be_compiled_is_refused(self, library):
        with pytest.raises(UserError, match=r"expected a network that torch can compile, .*no working compiler\)"):
            searched(library, "s")
        assert not (library.path.parent / "search" / "s" / "front.json").exists()


def test_other_scores_are_not_accepted(library, monkeypatch):
    monkeypatch.setattr(CompiledNetwork, "forward", lambda self, images: self.network(images) + 1)
    with pytest.raises(UserError, match="compiled, it gives other scores"):
        searched(library, "s")


def test_fewer_images_than_a_batch_are_refused(prepare, tmp_path):
    library = prepare(tmp_path, evaluation_batch_size=1000, pre_train_epochs=1, pre_prune_step=60)
    with pytest.raises(UserError, match="expected a whole batch of 1000 images to compile for, found 288"):
        searched(library, "s")


def test_short_searches_are_not_compiled(library):
    assert not searched(library, "s", "auto").compiled
