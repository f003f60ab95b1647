"""An observer that writes the result files of a search."""

from __future__ import annotations

import csv
import io
from typing import Any

from emomc.candidates.evaluation import Evaluation
from emomc.common.files import atomic_write, write_json, write_text
from emomc.common.metric import ACCURACY
from emomc.compression.levels import Level, patterned
from emomc.fronts.document import WHOLE_COSTS, count_of, front_document, interval
from emomc.fronts.report.figure import front_figure
from emomc.fronts.report.page import write_report
from emomc.search.observer import SearchCallback
from emomc.search.state import Candidate, Search


class FrontWriter(SearchCallback):
    """Writes front.csv, front.json, front.png, report.html and candidates.csv when the search ends.

    The files hold settings and results, but no times, so equal searches write equal bytes. docs/fronts.md describes
    them.
    """

    def on_search_end(self, search: Search) -> None:
        """Write the files."""
        files = search.files
        document = front_document(search)
        write_text(files.front_table, _csv(search, search.front))
        write_text(files.candidates_table, _csv(search, search.candidates))
        write_json(files.front, document)
        if not document["points"]:
            return
        write_report(document, files.report)
        figure = front_figure(document)
        with atomic_write(files.figure) as partial:
            figure.savefig(partial, format="png", dpi=160, bbox_inches="tight")


def _csv(search: Search, candidates: list[Candidate]) -> str:
    text = io.StringIO()
    rows = [_row(search, candidate) for candidate in candidates]
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _row(search: Search, candidate: Candidate) -> dict[str, Any]:
    evaluation, test, level = candidate.evaluation, candidate.test, Level.of(candidate.genotype.level)
    row = {
        "index": candidate.index,
        "generation": candidate.generation,
        "level_percent": level.percent,
        **({"pattern": level.pattern} if patterned(search.space.levels) else {}),
        "tuned": candidate.genotype.finetuned,
        "validation_accuracy": candidate.accuracy if candidate.measured else None,
        **interval("validation", evaluation),
        "test_accuracy": test.accuracy if test else None,
        **interval("test", test),
        **{name: int(value) if name in WHOLE_COSTS else value for name, value in candidate.costs.items()},
        **{
            f"{objective}_improvement": search.uncompressed[name] / candidate.costs[name]
            for objective, name in search.cost_model.columns.items()
        },
        **_metric(search, evaluation, test),
        "validation_correct": count_of(evaluation),
        "validation_images_seen": evaluation.seen if evaluation else None,
        "validation_images": evaluation.images if evaluation else None,
        "test_correct": count_of(test),
        "test_images": test.images if test else None,
        "constraint_violation": float(candidate.violation),
        **{f"bits_{layer}": bits for layer, bits in zip(search.space.layers, candidate.genotype.bits, strict=True)},
        **{
            f"activation_bits_{layer}": bits
            for layer, bits in zip(search.space.layers, candidate.genotype.activation_bits, strict=False)
        },
    }
    return {name: "" if value is None else value for name, value in row.items()}


def _metric(search: Search, evaluation: Evaluation | None, test: Evaluation | None) -> dict[str, float | None]:
    """Return the values of a user's metric, whose qualities are in the columns of the accuracy."""
    if search.metric is ACCURACY:
        return {}
    complete = evaluation if evaluation and evaluation.complete else None
    return {
        f"{kind}_metric": None if found is None else found.metric
        for kind, found in (("validation", complete), ("test", test))
    }
