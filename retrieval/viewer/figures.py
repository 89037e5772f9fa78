"""The figures of a pipeline's run: which must be there, and how they are written."""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import DataError

POINT_KEYS = ("step", "stage", "resolution", "margin", "learning_rate", "loss", "accuracy")


@dataclass(frozen=True)
class Run:
    """What a pipeline measured beside the ranking.

    Attributes:
        figures: {"map100": {"untrained": float, "members": {name: float}, "ensemble": float, and perhaps "intervals" and
            "comparison" (`retrieval.evaluate`)}, "parity": [{"arrow": str, "model": str, "max_abs": float, "cosine": float,
            "tolerance": float}], "seconds": {step: float}, "peak_rss_mib": float, "sizes": {name: bytes}, "data": {"train":
            int, "classes": int, "index": int, "queries": int}}; none of the tables may be empty.
        curves: model name → one mapping per logged training step, with the keys of `POINT_KEYS`; the learning rate is that of
            the step, and the accuracy is from 0 to 1.
        commands: that compute the figures again.
    """

    figures: Mapping[str, Any]
    curves: Mapping[str, Sequence[Mapping]]
    commands: Sequence[str] = ()


def require_complete(run: Run) -> None:
    """Raises `DataError` if a figure is missing or not finite, or a table is empty."""
    figures = run.figures
    map100 = _table(figures, "map100", "figures", ("untrained", "members", "ensemble"))
    _finite(map100, ("untrained", "ensemble"), "figures['map100']")
    members = _table(map100, "members", "figures['map100']")
    _finite(members, members, "figures['map100']['members']")
    for name in ("seconds", "sizes"):
        table = _table(figures, name, "figures")
        _finite(table, table, f"figures[{name!r}]")
    _finite(figures, ("peak_rss_mib",), "figures")
    data = ("train", "classes", "index", "queries")
    _finite(_table(figures, "data", "figures", data), data, "figures['data']")
    for place, row in enumerate(_table(figures, "parity", "figures")):
        _require(row, ("arrow", "model", "max_abs", "cosine", "tolerance"), f"figures['parity'][{place}]")
        _finite(row, ("tolerance",), f"figures['parity'][{place}]")
    for name, points in run.curves.items():
        if not points:
            raise _incomplete(f"curves[{name!r}] is empty")
        for place, point in enumerate(points):
            _finite(point, POINT_KEYS, f"curves[{name!r}][{place}]")


def parity_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parity rows with `passed`, the one nearest to its tolerance or furthest beyond it first. NaN never passes."""
    judged = [{**row, "passed": row["max_abs"] <= row["tolerance"] and math.isfinite(row["cosine"])} for row in rows]

    def badness(row: dict[str, Any]) -> float:
        share = row["max_abs"] / row["tolerance"] if row["tolerance"] else math.inf
        return math.inf if math.isnan(share) or not math.isfinite(row["cosine"]) else share

    return sorted(judged, key=lambda row: (row["passed"], -badness(row)))


def size_table(sizes: Mapping[str, float]) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """Sizes as a table: the kinds "checkpoint", "SavedModel", … as columns and models as rows, with None where there is nothing.

    A name of one word is a file by itself, a row with one value.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in sizes.items():
        kind, _, model = name.partition(" ")
        rows.setdefault(model or kind, {})[kind if model else ""] = value
    kinds = [kind for kind in dict.fromkeys(kind for row in rows.values() for kind in row) if kind]
    return kinds, [(name, [row[""]] if "" in row else [row.get(kind) for kind in kinds]) for name, row in rows.items()]


def seconds(value: float) -> str:
    """For example 9.5 s or 1 min 15 s."""
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{value:.1f} s"


def byte_size(value: float) -> str:
    """For example 12 B or 3.0 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def scientific(value: float, digits: int = 1) -> str:
    """For example 2.4 × 10⁻⁷; 0, infinity and NaN are unchanged."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _table(parent: Mapping, key: str, where: str, keys: Sequence[str] = ()) -> Any:
    """`parent[key]`, a mapping or a list, which must not be empty and must have all of `keys`."""
    _require(parent, (key,), where)
    if not parent[key]:
        raise _incomplete(f"{where}[{key!r}] is empty")
    _require(parent[key], keys, f"{where}[{key!r}]")
    return parent[key]


def _finite(table: Mapping, keys: Iterable[str], where: str) -> None:
    _require(table, keys, where)
    for key in keys:
        if not isinstance(table[key], numbers.Real) or not math.isfinite(table[key]):
            raise _incomplete(f"{where}[{key!r}] is {table[key]!r}, expected a finite number")


def _require(table: Mapping, keys: Iterable[str], where: str) -> None:
    missing = next((key for key in keys if key not in table), None)
    if missing is not None:
        raise _incomplete(f"{where} lacks {missing!r}, found {', '.join(map(str, table)) or 'nothing'}")


def _incomplete(problem: str) -> DataError:
    return DataError(
        f"the report cannot be written: {problem}. Run the steps that measure it, then write the report again."
    )
