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
from benchmarks.peers.networks import CALIBRATION_IMAGES, NETWORKS
from benchmarks.peers.points import DATAFLOW, HARDWARE
from benchmarks.peers.table import Row, accuracy_table, points_table, seeds_in, title_of
from benchmarks.peers.tools import PACKAGES, PEERS
from benchmarks.peers.trials import Trial

NOTES = "notes.md"
"""Beside the page: what its numbers mean, written by hand for each network, under its name as a heading."""


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
the same validation images, and no labels of the test images; one evaluator counts accuracies from the logits that it
gives. `benchmarks/peers/scripts` holds what was written for each, with the documentation that it follows.

- **bytes**: what a decoder needs, before entropy coding, by one rule for all: the code of each weight (or a bit for each
  weight and the codes of those that are not zero, where that is shorter), 4 bytes for each scale and for each bias, 1 for
  each zero point, 5 for each scale and zero point of activations. Bits are read back from the weights, not believed.
  Percent of the dense network in float32. With scales and biases 8 bits everywhere are some 25.7 % and 4 bits 13.2 % of
  LeNet-5: just above 25 and 12.5 %, so that 26 and 13.5 % have columns of their own. *Own file*: what the tool itself
  writes, ours with Huffman codes.
- **accuracy**: of the test images, by the network that is most accurate on the validation images among those of a tool
  within the budget. A choice among many flatters the validation images: we choose among hundreds, the others among two to
  eight.
- **energy**: of one image by the accelerator `{HARDWARE}`, dataflow `{DATAFLOW}`, from the bits, the weights that are not
  zero and the bits of the activations of each layer; percent of the dense network with weights of 32 bits.
- **activations** are rounded to 8 bits by all tools but where the table says `float`; ours too.
- **seconds** of one core, which other programs shared, for one network of a tool; of ours for two libraries with their
  training and two searches together, which give all of its networks. **lines**: of code that the user writes, imports
  included; of ours: commands."""


def _network(name: str, rows: Sequence[Row], trials: Sequence[Trial], dense: str) -> str:
    own = [row for row in rows if row["network"] == name]
    failed = [
        f"- {title_of(trial.tool)}, seed {trial.seed}: {trial.refused}"
        for trial in trials
        if trial.network == name and trial.refused
    ]
    given = table(
        ("tool", "version", "images", "own choice of activations"),
        [
            [title_of(tool), PEERS[tool].version, PEERS[tool].given, _activations(own, tool)]
            for tool in PEERS
            if any(row["tool"] == tool for row in own)
        ],
    )
    parts = [
        f"## {NETWORKS[name].title}\n\n{dense}",
        accuracy_table(own),
        f"![test accuracy over bytes and energy](peers_{name}.png)",
        f"### What each was given\n\n{given}\n\nEMOMC trains on all training images, with labels.",
        f"### Every network of seed {seeds_in(own)[0]}\n\nAll others are in [peers.csv](peers.csv).\n\n{points_table(own)}",
    ]
    if name == "lenet5_mnist":
        parts.insert(3, _published())
    if failed:
        parts.append("### What failed\n\n" + "\n".join(failed))
    return "\n\n".join(parts)


def _published() -> str:
    energies = [(accuracy, 100 * energy / UNCOMPRESSED_ENERGY_MJ) for accuracy, energy in ENERGY_XY_FRONT]
    sizes = [(accuracy, 100 * size / UNCOMPRESSED_SIZE_KIB) for accuracy, size in SIZE_CSR_FRONT]
    body = []
    for loss in (0.3, 1.0, 5.0):
        least = TEST_ACCURACY_PERCENT[100] - loss
        cells = [min(cost for accuracy, cost in front if accuracy >= least) for front in (energies, sizes)]
        body.append([f"{loss:g} points", *(f"{cell:.1f}" for cell in cells)])
    head = ("within", "energy, % of 32 bits", "size, % of float32")
    return f"""The paper's published code, run as it is (source: `benchmarks/common/reference_lenet5.py`): its dense network
has {TEST_ACCURACY_PERCENT[100]} %. It counts size as CSR with indices of 3 bits, without scales and biases, and chooses by the
test images, so its figures are no rows of the table:

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
