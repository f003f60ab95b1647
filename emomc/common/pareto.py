"""Pareto sets: non-dominated points, hypervolume and knee."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pymoo.indicators.hv import HV

Direction = Literal["min", "max"]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MAXIMISED = frozenset({"accuracy"})
"""Objectives that are maximised by default; all others are minimised."""


def non_dominated(points: npt.ArrayLike, *, first_only: bool = False) -> BoolArray:
    """Return which points are not dominated by another point; every column is minimised.

    A point dominates another if it is larger in no column and smaller in at least one. Equal points do not dominate
    each other.

    Args:
        points: shape (n, m), finite; n may be 0.
        first_only: keep only the first of equal non-dominated points.

    Returns:
        Mask of shape (n,).

    Raises:
        ValueError: ``points`` is not a finite matrix with at least one column.
    """
    matrix = _finite_matrix(points)
    mask = np.zeros(len(matrix), dtype=np.bool_)
    # In lexicographic order only an earlier point can dominate a later one, so one pass is enough.
    front = np.empty_like(matrix)
    size = 0
    for row in np.lexsort(matrix.T[::-1]):
        point = matrix[row]
        if size and np.array_equal(front[size - 1], point):
            mask[row] = not first_only
        elif not (front[:size] <= point).all(axis=1).any():
            front[size] = point
            size += 1
            mask[row] = True
    return mask


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the exact hypervolume between the points and the reference; every column is minimised.

    A point that is not below the reference in every column contributes nothing. moocore, a dependency of pymoo,
    computes the volume: a few hundred points take well below a millisecond for up to four columns.

    Args:
        points: shape (n, m), finite; n may be 0.
        reference: shape (m,), finite.

    Returns:
        The volume, in the product of the columns' units; 0 if nothing is dominated.

    Raises:
        ValueError: ``points`` is not a finite matrix, or ``reference`` is not a finite vector with a value per column.
    """
    corner = np.asarray(reference, dtype=np.float64)
    matrix = _finite_matrix(points, width=corner.size if corner.ndim == 1 else None)
    _check_reference(corner, matrix)
    inside = matrix[(matrix < corner).all(axis=1)]
    return float(HV(ref_point=corner)(inside)) if len(inside) else 0.0


def most_volume(points: npt.ArrayLike, count: int, reference: npt.ArrayLike, *, known: npt.ArrayLike = ()) -> IntArray:
    """Choose points one by one, each the one that adds most to the hypervolume; every column is minimised.

    What a point adds can only shrink when others are added, so that most need not be looked at again.

    Source: Guerreiro, Fonseca and Paquete, "Greedy hypervolume subset selection in low dimensions", Evolutionary
    Computation 24(3), 2016; Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978.

    Args:
        points: shape (n, m), finite, to choose from; n may be 0.
        count: how many to choose.
        reference: shape (m,), finite.
        known: shape (k, m), finite, points that are there already.

    Returns:
        Rows of ``points``, at most ``count``, in the order of choice; of equal ones, the first.

    Raises:
        ValueError: as ``hypervolume``.
    """
    corner = np.asarray(reference, dtype=np.float64)
    matrix, front = (_finite_matrix(part, width=corner.size) for part in (points, known))
    _check_reference(corner, matrix)
    front = front[non_dominated(front, first_only=True)]
    chosen: list[int] = []

    def gains(rows: slice) -> FloatArray:
        # Rounded, so that differences in the last bits decide nothing.
        rounded: FloatArray = np.round(_added_volume(front, matrix[rows], corner), 12)
        return rounded

    everything = slice(None)
    bounds, stale = gains(everything), np.zeros(len(matrix), bool)
    while len(chosen) < min(count, len(matrix)):
        row = int(np.argmax(bounds))
        if stale[row]:
            # Areas of all points take no longer than that of one.
            rows = everything if len(corner) == 2 else slice(row, row + 1)
            bounds[rows], stale[rows] = gains(rows), False
        else:
            chosen.append(row)
            together = np.vstack([front, matrix[row]])
            front = together[non_dominated(together, first_only=True)]
            stale[:] = True
        bounds[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)


def _added_volume(front: FloatArray, points: FloatArray, corner: FloatArray) -> FloatArray:
    """Return by how much each point, (n, m), alone adds to the hypervolume of non-dominated ones, (k, m)."""
    if len(corner) == 2:
        return _added_area(front, points, corner)
    volume, added = hypervolume(front, corner), np.zeros(len(points))
    for row, point in enumerate(points):
        if not (front <= point).all(axis=1).any():
            added[row] = hypervolume(np.vstack([front, point]), corner) - volume
    return added


def _added_area(front: FloatArray, points: FloatArray, corner: FloatArray) -> FloatArray:
    """Return the same of two columns: many points at once, and many times faster.

    The front is a staircase, which each point undercuts on some of its steps.
    """
    x, y = np.minimum(front[np.argsort(front[:, 0])], corner).T
    starts, ends, heights = np.append(-np.inf, x), np.append(x, corner[0]), np.append(corner[1], y)
    widths = np.maximum(0, ends - np.maximum(starts, points[:, :1]))
    added: FloatArray = (widths * np.maximum(0, heights - points[:, 1:])).sum(axis=1)
    return added


def _check_reference(corner: FloatArray, matrix: FloatArray) -> None:
    if corner.shape != (matrix.shape[1],) or not np.isfinite(corner).all():
        raise ValueError(f"expected a finite reference of shape ({matrix.shape[1]},), found {corner.tolist()}")


def _finite_matrix(points: npt.ArrayLike, width: int | None = None) -> FloatArray:
    matrix = np.asarray(points, dtype=np.float64)
    if matrix.size == 0 and matrix.ndim == 1 and width:
        matrix = matrix.reshape(0, width)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"expected points of shape (n, m) with m >= 1, found shape {matrix.shape}")
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"expected finite objectives, found {matrix[row].tolist()} in row {row}")
    return matrix


@dataclasses.dataclass(frozen=True, eq=False)
class ParetoFront:
    """The non-dominated candidates, in a fixed order.

    They are sorted by the first objective, best first (accuracy: the most accurate first), ties by the next objectives
    and then by row. The arrays are read-only.
    """

    objectives: tuple[str, ...]
    """Names of the columns."""
    directions: tuple[Direction, ...]
    """Whether each column is minimised or maximised."""
    values: FloatArray
    """Shape (points, objectives), in the units of the candidates."""
    rows: IntArray
    """Shape (points,): the row of each point among the candidates."""

    @classmethod
    def of(
        cls,
        candidates: Mapping[str, npt.ArrayLike],
        *,
        directions: Mapping[str, Direction] | None = None,
        first_only: bool = True,
    ) -> ParetoFront:
        """Find the front of some candidates.

        Args:
            candidates: objective name -> values of shape (n,), finite.
            directions: objective name -> "min" or "max" where it differs from the default: ``accuracy`` is maximised,
                everything else minimised.
            first_only: keep only the first of candidates with equal objectives.

        Raises:
            ValueError: there is no objective, the columns differ in length, a value is not finite, or a direction is
                unknown or for an unknown objective.
        """
        names = tuple(candidates)
        found = _directions(names, directions or {})
        columns = [np.asarray(candidates[name], dtype=np.float64) for name in names]
        if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
            shapes = {name: column.shape for name, column in zip(names, columns, strict=True)}
            raise ValueError(f"expected objectives of one shape (n,), found {shapes}")
        values = np.stack(columns, axis=1)
        losses = values * _signs(found)
        rows = np.flatnonzero(non_dominated(losses, first_only=first_only))
        rows = rows[np.lexsort(losses[rows].T[::-1])]
        chosen = values[rows]
        chosen.flags.writeable = False
        rows.flags.writeable = False
        return cls(names, found, chosen, rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def losses(self) -> FloatArray:
        """Shape (points, objectives): the values, maximised columns negated, so that smaller is always better."""
        return self.values * _signs(self.directions)

    def column(self, objective: str) -> FloatArray:
        """Return one objective's values, shape (points,).

        Raises:
            ValueError: there is no such objective.
        """
        if objective not in self.objectives:
            raise ValueError(f"expected one of {', '.join(self.objectives)}, found {objective!r}")
        return self.values[:, self.objectives.index(objective)]

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """Return the hypervolume of the front; see ``hypervolume``.

        Args:
            reference: objective name -> reference value, in the objective's own direction and unit.

        Raises:
            ValueError: an objective has no finite reference.
        """
        missing = [name for name in self.objectives if name not in reference]
        if missing:
            raise ValueError(f"expected a reference for every objective, found none for {', '.join(missing)}")
        corner = np.array([reference[name] for name in self.objectives], dtype=np.float64)
        return hypervolume(self.losses, corner * _signs(self.directions))

    def knee(self, span: Mapping[str, float] | None = None) -> int:
        """Return the position of the knee on the front; see ``knee``.

        Args:
            span: objective name -> divisor of its values; None: its range on the front.
        """
        return knee(self.losses, None if span is None else [span[name] for name in self.objectives])


def knee(losses: npt.ArrayLike, span: npt.ArrayLike | None = None) -> int:
    """Return the knee of a front, the point where it bends most; every column is minimised.

    Each column is divided by its span. The knee is the point farthest from the plane through (1, 0, ...), (0, 1, ...),
    ..., towards the ideal point. This is the point with the smallest sum of scaled columns; ties: the first. With two
    columns and the ranges of the front as spans, the plane is the straight line between the two ends of the front.

    Source: Das, "On characterizing the knee of the Pareto curve based on normal-boundary intersection",
    Structural Optimization 18, 1999.

    Args:
        losses: shape (n, m), finite, n >= 1; a front, one row per point.
        span: shape (m,), finite, above 0: the amounts of the columns that count as equal. None: the range of each
            column on the front, which depends on its extreme points, even if these are useless.

    Returns:
        The row of the knee.

    Raises:
        ValueError: there is no point, a point is not finite, or ``span`` has a wrong shape or value.
    """
    matrix = _finite_matrix(losses)
    if not len(matrix):
        raise ValueError("expected at least one point, found an empty front")
    offsets = matrix - matrix.min(axis=0)
    extent = offsets.max(axis=0) if span is None else np.asarray(span, dtype=np.float64)
    if span is not None and (extent.shape != (matrix.shape[1],) or not ((extent > 0) & np.isfinite(extent)).all()):
        raise ValueError(f"expected a span of {matrix.shape[1]} finite numbers above 0, found {extent.tolist()}")
    # A column in which all points are equal does not affect the knee.
    scaled = offsets / np.where(extent > 0, extent, 1.0)
    # Sums that differ only by rounding errors must count as equal, so that the first point is returned.
    return int(np.argmin(np.round(scaled.sum(axis=1), 12)))


def _directions(names: Sequence[str], given: Mapping[str, Direction]) -> tuple[Direction, ...]:
    if not names:
        raise ValueError("expected at least one objective, found none")
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"expected directions for {', '.join(names)}, found {', '.join(unknown)}")
    wrong = {name: value for name, value in given.items() if value not in ("min", "max")}
    if wrong:
        raise ValueError(f"expected the directions 'min' or 'max', found {wrong}")
    return tuple(given.get(name, "max" if name in MAXIMISED else "min") for name in names)


def _signs(directions: Sequence[Direction]) -> FloatArray:
    return np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
