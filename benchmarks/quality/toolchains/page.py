"""The page of the toolchains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.common.environments import Environment
from benchmarks.common.tables import table
from benchmarks.quality.toolchains.networks import LEVEL, NETWORKS, WEIGHT_BITS
from benchmarks.quality.toolchains.tools import TOOLS
from benchmarks.quality.toolchains.trials import Trial

_HEAD = ("tool", "--target", "network", "largest difference", "median image", "same class", "in integers", "note")


def page(trials: Sequence[Trial], environments: Mapping[str, Environment], made: str) -> str:
    """Return the page.

    Args:
        trials: what was tried.
        environments: tool name -> what was installed.
        made: by which command, when and where.
    """
    networks = "; ".join(
        f"{NETWORKS[name].title} ({NETWORKS[name].channels}x{NETWORKS[name].side}x{NETWORKS[name].side})"
        for name in dict.fromkeys(trial.network for trial in trials)
    )
    read = sum(not trial.refused for trial in trials)
    return f"""# Toolchains: who reads the ONNX files, and what comes out

{made}.

{networks}. Trained for some epochs on digits, pruned to {LEVEL} %, weights of
{", ".join(map(str, WEIGHT_BITS))} bits in turn with a scale for each channel, inputs of layers of 8 bits. The same test
images go through the tool and through the network that a search evaluates. Of {len(trials)} trials {read} ran.

- *largest difference*: of one logit of any image, relative to the largest logit. An input half-way between two codes
  may be rounded either way, which moves the logits of that image by about 1 %.
- *median image*: its largest difference, relative to its own largest logit.
- *in integers*: how many convolutions and linear layers the tool computed with integers, where it tells: kernels
  QLinearConv, ConvInteger, QGemm and MatMulInteger in the profile of onnxruntime, types of the layers in OpenVINO and
  LiteRT.

{table(_HEAD, [_row(trial) for trial in trials])}

Not tried for this page: {_not_tried(trials, environments)}.

## What was installed

{table(("tool", "packages", "installed"), _installations(environments))}
"""


def _row(trial: Trial) -> list[str]:
    head = [trial.tool.title, trial.tool.target, NETWORKS[trial.network].title]
    if trial.refused:
        return [*head, "does not run", "", "", "", trial.refused]
    numbers = ["" if value is None else f"{value:.0e}" for value in (trial.largest, trial.median)]
    same = "" if trial.equal is None else f"{100 * trial.equal:.1f} %"
    integers = "" if trial.integer_layers is None else f"{trial.integer_layers} of {trial.layers}"
    return [*head, *numbers, same, integers, trial.note]


def _not_tried(trials: Sequence[Trial], environments: Mapping[str, Environment]) -> str:
    tried = {(trial.network, trial.tool.name) for trial in trials}
    parts = []
    for name, network in NETWORKS.items():
        tools = [TOOLS[tool].title for tool in environments if (name, tool) not in tried]
        if tools:
            parts.append(f"{network.title} with {', '.join(tools)}")
    return "; ".join(parts) or "nothing that is installed"


def _installations(environments: Mapping[str, Environment]) -> list[list[str]]:
    rows = []
    for name, tool in TOOLS.items():
        packages = ", ".join(package.replace("==", " ") for package in tool.packages)
        if tool.not_tried:
            rows.append([tool.title, packages, f"not tried: {tool.not_tried}"])
        elif name in environments:
            rows.append([tool.title, packages, environments[name].reason or "yes"])
    return rows
