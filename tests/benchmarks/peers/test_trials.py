from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.common.environments import Environment
from benchmarks.peers.points import Evaluator
from benchmarks.peers.tools import PEERS, SCRIPTS, Peer
from benchmarks.peers.trials import Trial, keep_trial, kept_trial, try_peer
from emomc.common.files import write_json
from emomc.networks.layers import LayerCall, LayerShape

HERE = Environment(Path(sys.executable), {})
NETWORK = """
from torch import nn
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
    def forward(self, images):
        return self.linear(images.flatten(1))
NETWORKS = {"small": Small}
"""
TOOL = """
import sys
sys.path.insert(0, {scripts!r})
from problem import Compressed, Layer, run
def rounded(problem, bits):
    network = problem.network()
    if bits < 2: raise ValueError("no such bits")
    scale = network.linear.weight.abs().amax() / (2 ** (bits - 1) - 1)
    network.linear.weight.data = (network.linear.weight / scale).round() * scale
    return network
def read(problem, network):
    bits = 8 if len(network.linear.weight.unique()) > 4 else 3
    return Compressed(network, {{"linear": Layer(network.linear.weight, bits, 1)}}, None)
def broken(problem):
    raise RuntimeError("no convolutions")
run([rounded, broken], read, {{"rounded": [{{"bits": 8}}, {{"bits": 1}}, {{"bits": 2}}], "broken": [{{}}]}})
"""


@dataclasses.dataclass(frozen=True)
class ScriptPeer(Peer):
    """A peer whose script lies somewhere else."""

    path: Path = Path()

    @property
    def script(self) -> Path:
        return self.path


def make_problem(folder: Path) -> Path:
    folder.mkdir()
    (folder / "networks.py").write_text(NETWORK)
    torch.manual_seed(0)
    layer = nn.Linear(4, 2)
    torch.save({f"linear.{name}": tensor for name, tensor in layer.state_dict().items()}, folder / "weights.pt")
    write_json(folder / "problem.json", {"network": "small", "network_args": {}, "seed": 0})
    for split in ("validation", "test"):
        np.save(folder / f"{split}.npy", np.random.default_rng(0).normal(size=(6, 1, 2, 2)).astype(np.float32))
    return folder


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    return make_problem(tmp_path / "problem")


EVALUATOR = Evaluator(
    (LayerShape("linear", "linear", 4, 2, (LayerCall((1, 1), (1, 1)),)),), torch.zeros(6).long(), torch.ones(6).long()
)


def peer(tmp_path: Path, function: str) -> ScriptPeer:
    path = tmp_path / "run_tool.py"
    path.write_text(TOOL.format(scripts=str(SCRIPTS)))
    return ScriptPeer("tool", "a tool", "tool", function, "none", path=path)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScriptPeer, Path, Trial]:
    """A peer, its problem, and how it did."""
    folder = tmp_path_factory.mktemp("tried")
    one, problem = peer(folder, "rounded"), make_problem(folder / "problem")
    return one, problem, try_peer(one, HERE, problem, EVALUATOR, ("small", 0))


def test_a_peer_is_run_and_measured_and_a_setting_that_fails_is_named(tried: tuple[ScriptPeer, Path, Trial]) -> None:
    _, _, trial = tried
    assert [point.setting for point in trial.points] == ["bits 8", "bits 2"]
    assert trial.refused == "bits 1: ValueError: no such bits"
    first = trial.points[0]
    # The logits of the same images, judged by opposite labels.
    assert first.validation_accuracy + first.test_accuracy == pytest.approx(1)
    assert first.activation_bits is None
    # 8 codes of 8 bits, a scale, 2 biases.
    assert first.size_bytes == 8 + 4 + 8


def test_a_peer_that_fails_costs_its_row(problem: Path, tmp_path: Path) -> None:
    trial = try_peer(peer(tmp_path, "broken"), HERE, problem, EVALUATOR, ("small", 0))
    assert trial.points == ()
    assert trial.refused == "RuntimeError: no convolutions"


def test_what_is_there_is_not_run_again(tried: tuple[ScriptPeer, Path, Trial], tmp_path: Path) -> None:
    one, problem, first = tried
    kept, output = tmp_path / "tool.json", problem.parent / "peers" / "tool"
    keep_trial(kept, first)
    assert kept_trial(kept) == first
    # The peer goes on where it was: what it has written it does not compute again.
    (output / "rounded-bits-2.json").unlink()
    stamp = (output / "rounded-bits-8-0.npz").stat().st_mtime_ns
    again = try_peer(one, HERE, problem, EVALUATOR, ("small", 0))
    assert [point.setting for point in again.points] == ["bits 8", "bits 2"]
    assert again.points[0] == first.points[0]
    assert (output / "rounded-bits-8-0.npz").stat().st_mtime_ns == stamp


def test_every_peer_has_its_function_and_every_script_its_peer() -> None:
    assert {one.script for one in PEERS.values()} == {*SCRIPTS.glob("run_*.py")}
    for one in PEERS.values():
        # Less than a function of a line would be no code; more than a page would be ours and not a user's.
        assert 5 < one.lines < 60
        assert re.search("Its (documentation|guide|tutorials?|README): ", one.script.read_text())
