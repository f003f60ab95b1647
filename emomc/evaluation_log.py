"""The log of a search's evaluations: the one state from which a search can be taken up again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from emomc.errors import UserError
from emomc.evaluation import Evaluation
from emomc.genotype import Genotype

LOG = "evaluations.jsonl"


class EvaluationLog:
    """Evaluations in the order they were finished, one JSON line each, flushed to disk as they come.

    The first line says under which conditions all others were measured. A torn last line, as a killed process leaves
    it, is dropped.
    """

    def __init__(self, path: Path, conditions: dict[str, Any], layers: tuple[str, ...]) -> None:
        """Open a log, or begin one.

        Args:
            path: the file.
            conditions: whatever an evaluation depends on besides the genotype, JSON-ready.
            layers: names of the layers in the order of a genotype's bits.

        Raises:
            UserError: the log was written under other conditions; the first difference is named.
        """
        self._layers = layers
        self._evaluations: dict[Genotype, Evaluation] = {}
        lines = _whole_lines(path)
        if lines:
            _refuse_difference(path, json.loads(lines[0]), conditions)
            for line in lines[1:]:
                genotype, evaluation = self._parse(json.loads(line))
                self._evaluations[genotype] = evaluation
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if not lines:
            self._write(conditions)

    def get(self, genotype: Genotype) -> Evaluation | None:
        """Return the latest evaluation of a genotype, if there is one."""
        return self._evaluations.get(genotype)

    def __len__(self) -> int:
        return len(self._evaluations)

    def append(self, genotype: Genotype, evaluation: Evaluation) -> None:
        """Keep an evaluation; it is on disk when this returns."""
        self._evaluations[genotype] = evaluation
        self._write(
            {
                "level": genotype.level,
                "bits": dict(zip(self._layers, genotype.bits, strict=True)),
                "correct": evaluation.correct,
                "seen": evaluation.seen,
                "images": evaluation.images,
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _parse(self, value: dict[str, Any]) -> tuple[Genotype, Evaluation]:
        genotype = Genotype(value["level"], tuple(value["bits"][name] for name in self._layers))
        return genotype, Evaluation(value["correct"], value["seen"], value["images"])


def _whole_lines(path: Path) -> list[bytes]:
    """Return the log's complete lines, and cut a torn last one off the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return content[:whole].splitlines()


def _refuse_difference(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key in sorted({*found, *expected}):
        if found.get(key) != expected.get(key):
            raise UserError(
                f"expected the evaluations in {path} to have {key} = {expected.get(key)!r}, found {found.get(key)!r}; "
                f"use another --name, or --overwrite"
            )
