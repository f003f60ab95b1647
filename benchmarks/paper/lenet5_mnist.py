"""Write the page of LeNet-5 on MNIST from the files that the two commands wrote.

    emomc-pretrain --config lenet5_mnist --data_dir data
    emomc-search --config lenet5_mnist --data_dir data
    python -m benchmarks.paper.lenet5_mnist --run runs/lenet5-mnist --data_dir data

Evaluates every level on the test images, reads the front, and writes ``docs/results/lenet5_mnist.md`` and the picture
of the README.
"""

from __future__ import annotations

import datetime
import platform
import shutil
from pathlib import Path

import torch

from benchmarks.common.command_line import argument_parser
from benchmarks.common.libraries import level_accuracies
from benchmarks.common.page import publish
from benchmarks.common.reference_lenet5 import TEST_ACCURACY_PERCENT
from benchmarks.common.tables import table
from emomc.common.intervals import wilson_interval
from emomc.fronts.front_file import read_front
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.runtime.notices import quiet_lightning


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/lenet5-mnist"))
    parser.add_argument("--search", default=None, help="name of the search; the only one if not given")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--output", type=Path, default=Path("docs/results/lenet5_mnist.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/front_lenet5_mnist.png"))
    parser.add_argument("--note", default="", help="what else to say of the machine")
    arguments = parser.parse_args()
    library = Library.open(arguments.run / "library")
    folder = arguments.run / "search" / arguments.search if arguments.search else _only_search(arguments.run)
    front = read_front(folder)
    page = "\n".join(
        [_head(library, front, arguments.note), _levels(library, arguments.data_dir), _front_table(front, folder.name)]
    )
    publish(page, arguments.output)
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "front.png", arguments.picture)


def _only_search(run: Path) -> Path:
    (folder,) = (path.parent for path in run.glob("search/*/front.json"))
    return folder


def _head(library: Library, front: dict, note: str) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in front["versions"].items())
    settings = library.manifest.settings
    return f"""# LeNet-5 on MNIST

```
emomc-pretrain --config lenet5_mnist --data_dir data
emomc-search --config lenet5_mnist --data_dir data
python -m benchmarks.paper.lenet5_mnist --run runs/lenet5-mnist --data_dir data
```

Seed {settings["seed"]} in both stages; {datetime.date.today()}; {platform.machine()}, CPU. {note}
{versions}. 54,000 training, 6,000 validation and 10,000 test images; the test images decided nothing.
"""


def _levels(library: Library, data_dir: str) -> str:
    rows = []
    with quiet_lightning():
        accuracies = level_accuracies(library, data_dir)
    for record in library.manifest.levels:
        accuracy, reference = accuracies[record.percent], TEST_ACCURACY_PERCENT.get(record.percent)
        compared = ["", ""] if reference is None else [f"{reference:.2f}", f"{accuracy - reference:+.2f}"]
        name = "dense" if record.percent == DENSE else str(record.percent)
        validation = f"{100 * record.validation_accuracy:.2f}"
        rows.append([name, str(record.epochs), validation, f"{accuracy:.2f}", *compared])
    head = ["level, %", "epochs", "validation, %", "test, %", "reference, test, %", "difference"]
    return f"""## The library

Accuracy of each level before quantization. The reference is the paper's own code on the same data, one seed, \
300 epochs dense and 32 epochs a level.

{table(head, rows)}
"""


def _front_table(front: dict, name: str) -> str:
    base = front["baseline"]
    last = front["history"][-1]
    unit = front["energy_unit"]
    rows = []
    for point in front["points"]:
        low, high = wilson_interval(point["test_correct"], point["test_images"])
        rows.append(
            [
                str(point["index"]),
                f"{100 * point['validation_accuracy']:.2f}",
                f"{100 * point['test_accuracy']:.2f}",
                f"{100 * low:.2f}..{100 * high:.2f}",
                f"{point['energy_mj']:.6f}",
                f"{base['energy_mj'] / point['energy_mj']:.2f}",
                f"{point['size_kib']:.2f}",
                f"{base['size_kib'] / point['size_kib']:.2f}",
                str(point["level"]),
                " ".join(str(bits) for bits in point["bits"].values()),
            ]
        )
    head = ["point", "validation, %", "test, %", "interval", unit, "x", "KiB", "x", "level, %", "bits"]
    return f"""## The front: {", ".join(front["objectives"])}

Search `{name}`: {last["generation"]} generations, {last["evaluations"]} distinct candidates, hypervolume \
{last["hypervolume"]:.5f} of (error, cost / uncompressed) against (1, 1). Dataflow {front["dataflow"]}, \
coding {front["coding"]}, {front["accounting"]} accounting. The uncompressed network, 32 bits and all \
weights, under the same dataflow: {base["energy_mj"]:.6g} {unit}, {base["size_kib"]:.6g} KiB, validation \
{100 * base["validation_accuracy"]:.2f} %, test {100 * base["test_accuracy"]:.2f} %. \
Test accuracy with its 95 % Wilson interval; x: times less than uncompressed.

{table(head, rows)}

PyTorch ran on {torch.get_num_threads()} threads when this page was made.
"""


if __name__ == "__main__":
    main()
