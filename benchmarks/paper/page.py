"""The page and the table of the paper's experiments."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.command_line import command
from benchmarks.common.figures import save_figure
from benchmarks.common.part_clock import Part
from benchmarks.common.tables import csv_text, table
from benchmarks.paper.figure import front_figure
from benchmarks.paper.outcomes import ALLOWED_LOSS_POINTS, COLUMNS, UNITS, Images, Outcome, Trade, trades_of
from benchmarks.paper.published import published_result
from emomc.common.files import write_text
from emomc.library.manifest import DENSE

DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "digits"}
NETWORKS = {"lenet5": "LeNet-5", "vgg16": "VGG-16", "mobilenet": "MobileNet", "resnet18": "ResNet-18"}

Outcomes = Sequence[Outcome]

_HYPERVOLUME = """## Hypervolume

Of (error, cost / uncompressed cost) against (1, 1): by the validation images, which the searches see, and by the test
images, which only the final fronts are run over. Spread: largest minus smallest over the seeds, of the arm where it is
larger."""


def write(
    output: Path,
    experiment: str,
    budget: str,
    note: str,
    outcomes: Outcomes,
    settings: Mapping[str, Mapping[str, Any]],
    parts: Sequence[Part] = (),
) -> None:
    """Write the page, and beside it the table and a figure for each cost.

    Args:
        output: the page's path.
        experiment: a key of ``BUDGETS`` in ``experiments.py``.
        budget: its name.
        note: what the budget cuts.
        outcomes: every search of every arm and seed.
        settings: arm -> its settings by name.
        parts: what was done now, with its time.
    """
    arm = next(iter(settings.values()))
    title = title_of(experiment, outcomes[0].front["dataset"], arm["stage I: network_args"])
    searched = {trade.cost for trade in trades_of(outcomes)}
    figures = {cost: output.with_name(f"{output.stem}_{cost}.png") for cost in COLUMNS if cost in searched}
    for cost, path in figures.items():
        save_figure(front_figure(experiment, cost, outcomes), path)
    write_text(output.with_suffix(".csv"), csv_text([_row(experiment, title, budget, outcome) for outcome in outcomes]))
    sections = [
        _head(experiment, f"{title}, budget {budget}", note, outcomes, arm["stage I: images_per_epoch"]),
        _HYPERVOLUME,
        "### Validation\n\n" + _hypervolumes(outcomes, "validation"),
        "### Test\n\n" + _hypervolumes(outcomes, "test"),
        _best(experiment, outcomes),
        *(f"![fronts, {cost}]({path.name})" for cost, path in figures.items()),
        _libraries(outcomes),
        _work(outcomes),
        *([_parts(parts)] if parts else []),
        _differences(settings),
    ]
    write_text(output, "\n\n".join(sections) + "\n")


def title_of(experiment: str, dataset: str, network_args: Mapping[str, Any]) -> str:
    """Return the experiment for people; a folder of CIFAR-10's images holds them as JPEG files."""
    network = NETWORKS[experiment.split("_")[0]]
    jpeg = "CIFAR-10 (JPEG)" if experiment.endswith("cifar10") else "images of a folder"
    width = f" of {network_args['width']:g} of its width" if "width" in network_args else ""
    return f"{network}{width} on {DATASETS.get(dataset, jpeg)}"


def _head(experiment: str, title: str, note: str, outcomes: Outcomes, images_per_epoch: float) -> str:
    share = "" if images_per_epoch == 1 else f", each of {100 * images_per_epoch:g} % of the training images"
    machines = "; ".join(sorted({outcome.work["machine"] for outcome in outcomes}))
    dates = sorted({outcome.work["date"] for outcome in outcomes})
    versions = ", ".join(f"{name} {value}" for name, value in outcomes[0].front["versions"].items())
    epochs = ", ".join(
        f"{arm} {one.dense_epochs} dense and {one.fine_tuning_epochs} over all levels"
        for arm, one in {outcome.arm: outcome for outcome in outcomes}.items()
    )
    return f"""# The paper's experiment: {title}

Made by `{command()}`; seeds {_joined(sorted({str(outcome.seed) for outcome in outcomes}))}; searched
{" to ".join(sorted({dates[0], dates[-1]}))} on {machines}; {versions}.

`reference` has the settings of the paper's published code (the shipped `{experiment}_reference.yaml`), `emomc` our own
(`{experiment}.yaml`); the last section lists where they differ. Epochs: {epochs}{share}.
{textwrap.fill(note, 120)}

Both search the same 13 levels (80 to 20 % of the weights), are judged by the paper's formulas, and have the same split
of the images. Uncompressed means 32 bits and all weights, energy under the same dataflow. Both arms stop candidates
that can no longer matter; the front is the same without."""


def _hypervolumes(outcomes: Outcomes, images: Images) -> str:
    rows = []
    for trade in trades_of(outcomes):
        values = _by_arm(outcomes, trade, lambda outcome: outcome.hypervolume(images))
        old, new = values.get("reference", []), values.get("emomc", [])
        cells = [trade.label, *(_mean_and_all(part, 5) for part in (old, new))]
        if not old or not new:
            rows.append([*cells, "-", "-", "-"])
            continue
        difference = sum(new) / len(new) - sum(old) / len(old)
        spread = max(max(part) - min(part) for part in (old, new))
        one_seed = max(len(old), len(new)) == 1
        verdict = "one seed" if one_seed else "yes" if abs(difference) > spread else "no"
        rows.append([*cells, f"{difference:+.5f}", "-" if one_seed else f"{spread:.5f}", verdict])
    head = ["accuracy and", "reference: mean (by seed)", "emomc: mean (by seed)", "difference", "spread", "beyond it"]
    return table(head, rows)


def _best(experiment: str, outcomes: Outcomes) -> str:
    rows = []
    for trade in trades_of(outcomes):
        some = [outcome for outcome in outcomes if outcome.trade == trade]
        published = published_result(experiment, trade.cost, trade.variant, ALLOWED_LOSS_POINTS)
        base = f"{some[0].uncompressed_cost:.5g} {UNITS[trade.cost]}"
        for arm in _arms(outcomes):
            own = [outcome for outcome in some if outcome.arm == arm]
            cells = [trade.label, base, arm]
            for chosen_by in ("validation", "test"):
                points = [outcome.cheapest(chosen_by) for outcome in own]
                pairs = [(outcome, point) for outcome, point in zip(own, points, strict=True) if point]
                cells.append(_mean_and_all([point[COLUMNS[trade.cost]] for _, point in pairs], 5, significant=True))
                cells.append(_mean_and_all([outcome.improvement(point) for outcome, point in pairs], 2, "x"))
                if chosen_by == "validation":
                    cells.append(_joined(f"{outcome.loss_points(point, 'test'):+.2f}" for outcome, point in pairs))
            rows.append([*cells, published])
    head = ["accuracy and", "uncompressed", "arm", "chosen by validation: mJ or KiB", "improvement"]
    head += ["its test loss, points", "chosen by test: mJ or KiB", "improvement", "published"]
    of_code = experiment == "lenet5_mnist"
    source = "the published code reached in its own run" if of_code else "the paper reports for the whole network"
    return f"""## The cheapest network within {ALLOWED_LOSS_POINTS:g} points of the uncompressed accuracy

Uncompressed: the dense network of the arm's own library, 32 bits, all weights, same dataflow. Means, in parentheses by
seed; `-`: no point of the front is that close. A user chooses by the validation images; choosing by the test images, as
the paper's code does, flatters. In the last column stands what {source}.

{table(head, rows)}"""


def _libraries(outcomes: Outcomes) -> str:
    firsts = {(outcome.arm, outcome.seed): outcome for outcome in outcomes}
    percents = [level.percent for level in outcomes[0].levels]
    rows = []
    for arm in _arms(outcomes):
        own = [outcome for (its, _), outcome in firsts.items() if its == arm]
        by_level = zip(*([level.validation_accuracy for level in outcome.levels] for outcome in own), strict=True)
        rows.append([arm, *(f"{100 * sum(accuracies) / len(accuracies):.2f}" for accuracies in by_level)])
    head = ["arm", *("dense" if percent == DENSE else f"{percent} %" for percent in percents)]
    return f"""## The libraries

Validation accuracy of each level before quantization, percent, mean over the seeds.

{table(head, rows)}"""


def _work(outcomes: Outcomes) -> str:
    rows = []
    for arm, seed in dict.fromkeys((outcome.arm, outcome.seed) for outcome in outcomes):
        own = [outcome for outcome in outcomes if (outcome.arm, outcome.seed) == (arm, seed)]
        first, base = own[0], own[0].front["baseline"]
        total = {key: sum(outcome.work[key] for outcome in own) for key in ("asked", "measured", "images", "seconds")}
        training = "-" if first.stage_one_seconds is None else f"{first.stage_one_seconds:.0f}"
        accuracies = [f"{100 * base[f'{images}_accuracy']:.2f}" for images in ("validation", "test")]
        epochs = [str(first.dense_epochs), str(first.fine_tuning_epochs), training]
        searched = [f"{total[key]:.0f}" for key in ("asked", "measured", "images", "seconds")]
        rows.append([arm, str(seed), *accuracies, *epochs, *searched])
    head = ["arm", "seed", "dense validation, %", "dense test, %", "epochs dense", "epochs of levels", "training, s"]
    head += ["candidates asked for", "measured", "images seen", "searches, s"]
    searches = len(trades_of(outcomes))
    return f"""## The work

Of the {searches} searches of a library together. Seconds are of a machine that may have been shared. What
one search of a library measured the next ones need not.

{table(head, rows)}"""


def _parts(parts: Sequence[Part]) -> str:
    rows = [
        [
            part.name,
            f"{part.seconds:.1f}",
            "-" if part.gpu_busy is None else f"{100 * part.gpu_busy:.0f}",
            "-" if part.gpu_gib is None else f"{part.gpu_gib:.2f}",
        ]
        for part in parts
    ]
    return f"""## The time

Of each part of the last run of the command. Busy: share of the time in which a kernel ran on the GPU. Memory: most that
tensors took on the GPU at a time.

{table(["part", "seconds", "GPU busy, %", "GPU memory, GiB"], rows)}"""


def _differences(settings: Mapping[str, Mapping[str, Any]]) -> str:
    names = next(iter(settings.values()))
    rows = []
    for name in names:
        values = [_shown(arm[name]) for arm in settings.values()]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return "## Where the arms differ\n\n" + table(["setting", *settings], rows)


def _row(experiment: str, title: str, budget: str, outcome: Outcome) -> dict[str, Any]:
    """Return one line of the table; costs are in mJ or KiB, accuracies 0..1."""
    base = outcome.front["baseline"]
    row = {
        "experiment": experiment,
        "title": title,
        "budget": budget,
        "arm": outcome.arm,
        "seed": outcome.seed,
        "cost": outcome.trade.cost,
        "variant": outcome.trade.variant,
        "hypervolume_validation": outcome.hypervolume("validation"),
        "hypervolume_test": outcome.hypervolume("test"),
        "uncompressed_cost": outcome.uncompressed_cost,
        "dense_validation_accuracy": base["validation_accuracy"],
        "dense_test_accuracy": base["test_accuracy"],
    }
    for images in ("validation", "test"):
        point = outcome.cheapest(images)
        row |= {
            f"within_by_{images}_cost": point[COLUMNS[outcome.trade.cost]] if point else "",
            f"within_by_{images}_improvement": outcome.improvement(point) if point else "",
            f"within_by_{images}_test_accuracy": point["test_accuracy"] if point else "",
        }
    return {**row, **outcome.work_columns, "command": command()}


def _arms(outcomes: Outcomes) -> list[str]:
    return list(dict.fromkeys(outcome.arm for outcome in outcomes))


def _by_arm(outcomes: Outcomes, trade: Trade, value: Callable[[Outcome], float]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.trade == trade:
            values.setdefault(outcome.arm, []).append(value(outcome))
    return values


def _mean_and_all(values: Sequence[float], digits: int, unit: str = "", *, significant: bool = False) -> str:
    if not values:
        return "-"
    kind = "g" if significant else "f"
    shown = [f"{value:.{digits}{kind}}{unit}" for value in (sum(values) / len(values), *values)]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({_joined(shown[1:])})"


def _joined(words: Any) -> str:
    return " ".join(words) or "-"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
