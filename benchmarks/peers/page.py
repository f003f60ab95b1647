"""The page that compares the tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.common.environments import Environment
from benchmarks.common.reference_lenet5 import (
    ENERGY_XY_FRONT,
    SIZE_CSR_FRONT,
    TEST_ACCURACY_PERCENT,
    UNCOMPRESSED_ENERGY_MJ,
    UNCOMPRESSED_SIZE_KIB,
)
from benchmarks.common.tables import table
from benchmarks.peers.choice import BUDGETS
from benchmarks.peers.networks import CALIBRATION_IMAGES, NETWORKS
from benchmarks.peers.points import DATAFLOW, HARDWARE
from benchmarks.peers.table import Row, accuracy_table, points_table, seeds_in, title_of, verdicts
from benchmarks.peers.tools import OUR_WAYS, PACKAGES, PEERS
from benchmarks.peers.trials import Trial

NOISE_POINTS = 0.16
"""Two standard deviations of an accuracy of some 99.3 % on 10,000 test images, in points."""


def page(
    rows: Sequence[Row],
    trials: Sequence[Trial],
    environments: Mapping[str, Environment],
    dense: Mapping[str, str],
    made: str,
) -> str:
    """Return the page.

    Args:
        rows: every point of every tool, network and seed.
        trials: what was tried.
        environments: key of ``PACKAGES`` -> what was installed.
        dense: network -> words on its dense networks.
        made: by which command, when and where.
    """
    sections = [
        f"# Side by side with other tools\n\n{made}.\n\n{_HOW}",
        *(_network(name, rows, trials, dense[name]) for name in dict.fromkeys(row["network"] for row in rows)),
        f"## What was installed\n\n{table(('tool', 'packages', 'installed'), _installations(environments))}",
    ]
    return "\n\n".join(sections) + "\n"


_HOW = f"""Every tool gets the same trained weights, the same {CALIBRATION_IMAGES} training images to calibrate with and
the same validation images, and no labels of the test images. One evaluator counts accuracies from the logits that each
gives. `benchmarks/peers/scripts` holds what was written for each, with the documentation that it follows.

- **Bytes** are what a decoder needs, before entropy coding, by one rule for all: the code of each weight, or a bit for
  each weight and the codes of those that are not zero, where that is shorter; 4 bytes for each scale and each bias, 1
  for each zero point, 5 for the grid of an activation. Percent of the dense network in float32. Bits are read back from
  the weights, not believed. *Own file*: what the tool itself writes; ours has Huffman codes. Scales and biases are what
  lifts 8 bits everywhere to some 25.7 % and 4 bits everywhere to some 13.2 % of LeNet-5, just above 25 and 12.5 %:
  26 and 13.5 % have columns of their own.
- **Accuracy** is that of the test images, by the network that is most accurate on the validation images among those
  of a tool within the budget. Such a choice flatters the validation images, most where there is most to choose from:
  ours is from some hundred candidates, that of the others from one to eight. On 10,000 test images
  {NOISE_POINTS} points are noise.
- **Energy** is that of one image on the accelerator `{HARDWARE}` with the dataflow `{DATAFLOW}`, from the bits, the
  weights that are not zero and the bits of the activations of each layer; floats count as 16 bits. Percent of the dense
  network with weights of 32 bits.
- **Activations** are rounded to 8 bits by the others but are floats in ours, and in Optuna's, which uses our
  evaluation. [Rounded to 8 bits](activation_bits.md), ours lose at most 0.08 points.
- **Seconds** are of one core that other programs shared: of one network of a tool; of ours for all of its networks,
  which two libraries with their training and two searches give together. **Lines** of code are what a user of the tool
  writes, imports included; of ours, commands."""


def _network(name: str, rows: Sequence[Row], trials: Sequence[Trial], dense: str) -> str:
    own = [row for row in rows if row["network"] == name]
    failed = [
        f"- {title_of(trial.tool)}, seed {trial.seed}: {trial.refused}"
        for trial in trials
        if trial.network == name and trial.refused
    ]
    given = table(
        ("tool", "version", "images", "activations"),
        [
            [title_of(tool), PEERS[tool].version, PEERS[tool].given, _activations(own, tool)]
            for tool in PEERS
            if any(row["tool"] == tool for row in own)
        ],
    )
    parts = [
        f"## {NETWORKS[name].title}\n\n{dense}",
        accuracy_table(own),
        _verdict(own),
        f"![test accuracy over bytes and energy](peers_{name}.png)",
        f"### What each was given\n\n{given}\n\nEMOMC trains its levels on all training images, with labels; where all "
        "weights are kept, it trains nothing and uses 512 training images, without labels.",
        f"### The networks of seed {seeds_in(own)[0]}\n\n"
        "Of ours those that someone with a budget would take; [peers.csv](peers.csv) has all.\n\n" + points_table(own),
    ]
    if name == "lenet5_mnist":
        parts.insert(3, _published())
    tried = {trial.tool for trial in trials if trial.network == name}
    if left := [peer.title for peer in PEERS.values() if peer.name not in tried]:
        parts.insert(2, f"Not run yet: {', '.join(left)}.")
    if failed:
        parts.append("### What failed\n\n" + "\n".join(failed))
    return "\n\n".join(parts)


_BEHIND = """Where EMOMC with levels is behind at mild sizes, its fronts hold no network of that size. On the validation
images some sparse level is as accurate as the dense network, within their noise, and from then on all that is larger is
not on the front: a search measures hundreds of candidates, but hardly one of the dense level. On the test images the
dense level is the more accurate one. The others keep all weights, and choose among a few networks close to the dense
one, as EMOMC does where all weights are kept."""


def _verdict(rows: Sequence[Row]) -> str:
    """Return at which budgets ours is ahead of every other tool, and where not, by how much and why."""
    lines, behind = [], False
    for way in OUR_WAYS:
        for budget, tool, lead in verdicts(rows, way):
            behind |= lead < 0
            size = "" if abs(lead) >= NOISE_POINTS else ", within the noise"
            words = f"{lead:.2f} points ahead of" if lead > 0 else f"{-lead:.2f} points behind"
            lines.append(f"- At most {budget:g} %: {title_of(way)} is {words} {title_of(tool)}, the best other{size}.")
    reached = {budget for budget, _, _ in verdicts(rows)}
    lines += [f"- At most {budget:g} %: only ours has a network." for budget in BUDGETS if budget not in reached]
    return "\n".join(lines) + (f"\n\n{_BEHIND}" if behind else "")


def _published() -> str:
    energies = [(accuracy, 100 * energy / UNCOMPRESSED_ENERGY_MJ) for accuracy, energy in ENERGY_XY_FRONT]
    sizes = [(accuracy, 100 * size / UNCOMPRESSED_SIZE_KIB) for accuracy, size in SIZE_CSR_FRONT]
    body = []
    for loss in (0.3, 1.0, 5.0):
        least = TEST_ACCURACY_PERCENT[100] - loss
        cells = [min(cost for accuracy, cost in front if accuracy >= least) for front in (energies, sizes)]
        body.append([f"{loss:g} points", *(f"{cell:.1f}" for cell in cells)])
    head = ("within", "energy, % of 32 bits", "size, % of float32")
    return f"""The paper's published code, run as it is (`benchmarks/common/reference_lenet5.py` says how), has a dense
network of {TEST_ACCURACY_PERCENT[100]} %. It counts size as CSR with indices of 3 bits, without scales and biases, and
chooses by the test images, so that its figures are no row of the table:

{table(head, body)}"""


def _activations(rows: Sequence[Row], tool: str) -> str:
    return ", ".join(sorted({str(row["activation_bits"]) for row in rows if row["tool"] == tool})) + " bits"


def _installations(environments: Mapping[str, Environment]) -> list[list[str]]:
    rows = []
    for name, packages in PACKAGES.items():
        if name in environments:
            words = ", ".join(package.replace("==", " ") for package in packages)
            rows.append([name, words, environments[name].reason or "yes"])
    return rows
