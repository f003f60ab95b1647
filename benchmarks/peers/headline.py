"""Write the short comparison of the README from the table of all points.

    python -m benchmarks.peers.headline

Rewrites what stands in ``README.md`` between the two marks of this module.
"""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import put_between_marks
from benchmarks.peers.table import accuracy_table
from benchmarks.peers.tools import OUR_WAYS
from emomc.common.files import write_text

MARK = "side by side, by python -m benchmarks.peers.headline"
NETWORK = "lenet5_mnist"
TOOLS = (*OUR_WAYS, "mct_gptq", "aimet", "modelopt", "onnxruntime", "torchao", "inc")
"""The README has ten lines for them; the page has all."""
BUDGETS = (26.0, 12.5, 9.0, 6.25)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--table", type=Path, default=Path("docs/results/peers.csv"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    arguments = parser.parse_args()
    text = arguments.readme.read_text(encoding="utf-8")
    write_text(arguments.readme, put_between_marks(text, MARK, headline(arguments.table)))


def headline(path: Path) -> str:
    """Return the table of the README, a line for each tool."""
    with path.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text) if row["network"] == NETWORK and row["tool"] in TOOLS]
    return accuracy_table(rows, BUDGETS) + "\n"


if __name__ == "__main__":
    main()
