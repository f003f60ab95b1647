"""The log of a search's evaluations, the only state that a search needs to resume."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from emomc.candidates.evaluation import Evaluation
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError, UserNote, first_line, require
from emomc.common.files import writing
from emomc.common.json_values import parse_json
from emomc.common.schema import checked
from emomc.compression.levels import LevelName
from emomc.library.library import Library

Conditions = Mapping[str, Any]


class EvaluationLog:
    """Evaluations in the order they were made, one JSON line each, written to disk immediately.

    The first line holds the conditions and software versions of all others. A line identifies the level by the digest
    of its weights, and gives the bits by layer name; those of inputs, too, if they are searched. An incomplete last
    line, left by a killed process, is dropped.
    """

    def __init__(
        self,
        path: Path,
        library: Library,
        conditions: Conditions,
        versions: Mapping[str, str],
        *,
        images: int,
        others: Iterable[Path] = (),
        write: bool = True,
    ) -> None:
        """Open a log, or create one.

        Args:
            path: the file.
            library: the library whose networks are evaluated.
            conditions: everything that an evaluation depends on besides level and bits, as JSON values.
            versions: software name -> version.
            images: number of the images that every evaluation is on.
            others: logs of other searches; their evaluations under the same conditions and versions are reused.
            write: whether this process writes the file; with several processes, exactly one does.

        Raises:
            UserError: the log is damaged, or has other conditions or versions; the message names the first difference.
        """
        self._layers = tuple(layer.name for layer in library.manifest.compressed_layers)
        self._digests = {record.name: record.sha256[:16] for record in library.manifest.levels}
        self._images = images
        self._header = {"conditions": dict(conditions), "versions": dict(versions)}
        self.learned: dict[Genotype, Evaluation] = {}
        """The evaluations of other searches."""
        for other in others:
            if other != path:
                try:
                    _keep_longest(self.learned, self._read(other, _whole_lines(other)))
                except UserError as error:
                    warnings.warn(f"the log of another search is left aside: {error}", UserNote, stacklevel=2)
        lines = _whole_lines(path)
        if lines:
            self._refuse_difference(path, lines[0])
        self._known: dict[Genotype, Evaluation] = {}
        _keep_longest(self._known, self._read(path, lines))
        self.learn(self.learned)
        self._path = path
        self._file = None
        if write:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                # Unbuffered, so that a write error occurs here and not later.
                self._file = path.open("ab", buffering=0)
                # Remove the incomplete last line of a killed process.
                self._file.truncate(sum(len(line) + 1 for line in lines))
            if not lines:
                self._write(self._header)

    def __enter__(self) -> EvaluationLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, evaluations: Mapping[Genotype, Evaluation]) -> None:
        """Take evaluations of other searches, where they saw more images than those of this one."""
        for genotype, evaluation in evaluations.items():
            if genotype not in self._known or evaluation.seen > self._known[genotype].seen:
                self._known[genotype] = evaluation

    def get(self, genotype: Genotype) -> Evaluation | None:
        """Return the evaluation of a genotype, or None."""
        return self._known.get(genotype)

    def append(self, genotype: Genotype, evaluation: Evaluation) -> None:
        """Add an evaluation; if this process writes the file, it is on disk when this returns."""
        self._known[genotype] = evaluation
        self._write(
            {
                "level": genotype.level,
                "weights": self._digests[genotype.level],
                "bits": dict(zip(self._layers, genotype.bits, strict=True)),
                **self._activation_bits(genotype),
                "correct": evaluation.correct,
                "seen": evaluation.seen,
                "images": evaluation.images,
                **({} if evaluation.metric is None else {"metric": evaluation.metric}),
            }
        )

    def _activation_bits(self, genotype: Genotype) -> dict[str, Any]:
        own = genotype.activation_bits
        return {"activation_bits": dict(zip(self._layers, own, strict=True))} if own else {}

    def _write(self, value: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        with writing(self._path):
            self._file.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
            os.fsync(self._file.fileno())

    def _read(self, path: Path, lines: list[bytes]) -> list[tuple[Genotype, Evaluation]]:
        """Return the evaluations in the lines of a log; none if it has other conditions or versions."""
        if not lines or _parsed(path, 1, lines[0]) != self._header:
            return []
        entries = [self._entry(path, number, line) for number, line in enumerate(lines[1:], 2)]
        return [entry for entry in entries if entry is not None]

    def _entry(self, path: Path, number: int, line: bytes) -> tuple[Genotype, Evaluation] | None:
        """Return the genotype and evaluation of a line; None if it belongs to other weights or other layers."""
        values = _parsed(path, number, line)
        try:
            entry = checked(_Line, values, "an evaluation")
            require(entry.images == self._images, f"an evaluation on {self._images} images", entry.images)
            evaluation = Evaluation(entry.correct, entry.seen, entry.images, entry.metric)
        except UserError as error:
            raise _damaged(path, number, error) from None
        inputs = entry.activation_bits or entry.bits
        if self._digests.get(entry.level) != entry.weights or not entry.bits.keys() == inputs.keys() == {*self._layers}:
            return None
        bits, own = (tuple(of[name] for name in self._layers) for of in (entry.bits, inputs))
        return Genotype(entry.level, bits, activation_bits=own if entry.activation_bits else ()), evaluation

    def _refuse_difference(self, path: Path, line: bytes) -> None:
        values = _parsed(path, 1, line)
        try:
            header = checked(_Header, values, "conditions and versions")
        except UserError as error:
            raise _damaged(path, 1, error) from None
        for found, part in ((header.conditions, "conditions"), (header.versions, "versions")):
            for key in sorted({*found, *self._header[part]}):
                was, now = found.get(key), self._header[part].get(key)
                if was != now:
                    raise UserError(
                        f"expected evaluations made with {key} {now!r} in {path}, found {was!r}: "
                        f"take another --name, or --overwrite"
                    )


def _keep_longest(known: dict[Genotype, Evaluation], found: Iterable[tuple[Genotype, Evaluation]]) -> None:
    """Add evaluations; of several of a genotype, the last of those that saw the most images is kept."""
    for genotype, evaluation in found:
        if genotype not in known or evaluation.seen >= known[genotype].seen:
            known[genotype] = evaluation


@dataclasses.dataclass(frozen=True)
class _Header:
    """The first line of a log."""

    conditions: dict[str, Any]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Line:
    """Any other line of a log."""

    level: LevelName
    weights: str
    bits: dict[str, int]
    correct: int | float
    seen: int
    images: int
    metric: float | None = None
    activation_bits: dict[str, int] | None = None


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line of a log; ``number`` counts from 1."""
    try:
        value = parse_json(line)
        require(isinstance(value, dict), "a JSON object", value)
    except ValueError as error:
        raise _damaged(path, number, error) from None
    found: dict[str, Any] = value
    return found


def _damaged(path: Path, number: int, error: Exception) -> UserError:
    return UserError(
        f"expected evaluations in {path}, found that line {number} is damaged ({first_line(error)}): "
        f"take another --name, or --overwrite"
    )


def _whole_lines(path: Path) -> list[bytes]:
    """Return the complete lines of a log; none if there is no such file."""
    if not path.exists():
        return []
    return path.read_bytes().split(b"\n")[:-1]
