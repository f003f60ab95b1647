"""The rows of the table of toolchains, each where its environment is installed."""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from benchmarks.common.environments import Environment, environment_of, reason_in, run_script
from benchmarks.quality.toolchains.networks import NETWORKS, CompressedNetwork
from benchmarks.quality.toolchains.page import page
from benchmarks.quality.toolchains.tools import TOOLS
from benchmarks.quality.toolchains.trials import Trial, compared, keep_trial, kept_trial, try_tool

ROOT = Path(__file__).parents[3]
# Environments of an earlier run of the benchmark.
ENVIRONMENTS = Path(os.environ.get("EMOMC_TOOLCHAINS", ROOT / "runs" / "toolchains" / "environments"))
APART = [name for name, tool in TOOLS.items() if name != "onnxruntime" and not tool.not_tried]
# Tools that calibrate ranges themselves move the logits by more.
MEDIANS = {"onnx2tf": 0.03}


@pytest.fixture(scope="module")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> CompressedNetwork:
    tried = dataclasses.replace(NETWORKS["lenet5"], epochs=1)
    return CompressedNetwork(tried, tmp_path_factory.mktemp("toolchains"))


def check_row(trial: Trial) -> None:
    assert not trial.refused
    if trial.tool.gives_scores:
        assert trial.median is not None
        assert trial.median < MEDIANS.get(trial.tool.name, 1e-3)
        assert trial.equal is not None
        assert trial.equal > 0.98


def test_onnxruntime_reads_its_file_and_computes_all_layers_with_integers(
    lenet5: CompressedNetwork, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    here = Environment(Path(sys.executable), {"onnxruntime": version("onnxruntime")})
    trial = try_tool(TOOLS["onnxruntime"], here, lenet5, tmp_path, 120)
    check_row(trial)
    assert trial.integer_layers == trial.layers == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", APART)
def test_every_tool_that_is_installed_reads_its_file(lenet5: CompressedNetwork, tmp_path: Path, name: str) -> None:
    environment = environment_of(ENVIRONMENTS / name, TOOLS[name].packages, install=False)
    if environment.reason:
        pytest.skip(f"{name} has no environment here")
    trial = try_tool(TOOLS[name], environment, lenet5, tmp_path, 500)
    check_row(trial)
    if trial.layers is not None:
        assert trial.integer_layers == trial.layers


def test_a_trial_is_kept(tmp_path: Path) -> None:
    trial = Trial(TOOLS["openvino"], "lenet5", "", 0.01, 1e-7, 0.995, 3, 5, "3 Convolution u8")
    assert kept_trial(tmp_path / "openvino.json") is None
    keep_trial(tmp_path / "openvino.json", trial)
    assert kept_trial(tmp_path / "openvino.json") == trial


def test_every_tool_has_a_runner() -> None:
    runners = {path.stem.removeprefix("run_") for path in TOOLS["mnn"].runner.parent.glob("run_*.py")}
    assert runners == {name for name, tool in TOOLS.items() if not tool.not_tried}


def test_differences_are_relative_to_the_largest_logit() -> None:
    expected = torch.tensor([[4.0, 1.0], [1.0, 2.0], [0.0, 1.0]])
    found = expected + torch.tensor([[0.4, 0.0], [1.5, 0.0], [0.0, 0.1]])
    trial = compared(Trial(TOOLS["ncnn"], "lenet5"), found, expected)
    assert trial.largest == pytest.approx(1.5 / 4)
    assert trial.median == pytest.approx(0.1)
    assert trial.equal == pytest.approx(2 / 3)
    assert compared(trial, found[:2], expected).refused


def test_a_script_that_fails_or_takes_too_long_gives_the_reason(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, time\nif sys.argv[1:]: time.sleep(60)\nraise ValueError('no such layer')\n")
    assert run_script(Path(sys.executable), script, [], 60) == ("", "ValueError: no such layer")
    assert run_script(Path(sys.executable), script, [tmp_path], 0.5) == ("", "not done in 0 minutes")
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert run_script(Path(sys.executable), script, [], 60) == ("", "crashes (signal 11)")
    assert reason_in("") == "no reason given"


def test_the_page_says_what_does_not_run() -> None:
    tool = TOOLS["mnn"]
    trials = [Trial(tool, "lenet5", "crashes (signal 11)"), Trial(tool, "resnet18", "", 0.01, 1e-7, 0.995, 3, 5)]
    text = page(trials, {"mnn": Environment(Path("python"), {})}, "Made")
    assert "does not run |  |  |  | crashes (signal 11)" in text
    assert "1e-02 | 1e-07 | 99.5 % | 3 of 5" in text
    assert "Of 2 trials 1 ran" in text
