"""One self-contained HTML page with the results of a run: it loads no script, font or image."""

import base64
import io
import math
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import ImageOps

from retrieval.data.images import open_image
from zoo.errors import DataError
from zoo.files import new_file

TEMPLATE = Path(__file__).with_name("report.html.j2")
COMMANDS = ("make demo", "make test")
QUERIES_SHOWN = 12
HITS_SHOWN = 10
THUMBNAIL = 96  # pixels; with the numbers above, the page stays below 1.5 MB
QUERY_THUMBNAIL = 144
JPEG_QUALITY = 72
POINT_KEYS = ("step", "stage", "resolution", "margin", "learning_rate", "loss", "accuracy")


@dataclass(frozen=True)
class Hit:
    """One found index image; `distance` is Euclidean, `correct` says whether it shows the query's landmark."""

    image: Path
    image_id: str
    distance: float
    correct: bool


@dataclass(frozen=True)
class QueryRow:
    """A query and what was found for it, nearest first; `average_precision` is AP@100, from 0 to 1."""

    image: Path
    image_id: str
    average_precision: float
    hits: list[Hit]


@dataclass(frozen=True)
class Report:
    """The content of the page.

    Attributes:
        title: the heading.
        figures: {"map100": {"untrained": float, "members": {name: float}, "ensemble": float},
            "parity": [{"arrow": str, "model": str, "max_abs": float, "cosine": float, "tolerance": float}],
            "seconds": {step: float}, "peak_rss_mib": float, "sizes": {name: bytes},
            "data": {"train": int, "classes": int, "index": int, "queries": int}}; none of the tables may be empty.
        curves: model name → one dict per logged training step, with the keys of `POINT_KEYS`; the learning rate is that
            of the step, and the accuracy is from 0 to 1.
        queries: any number above 0; the page shows `QUERIES_SHOWN` of them, from the best to the worst.
    """

    title: str
    figures: dict
    curves: dict[str, list[dict]]
    queries: list[QueryRow]


@dataclass(frozen=True)
class Stage:
    """One training stage on a chart: its left edge and width in chart units, and what is trained in it."""

    x: float
    width: float
    resolution: int
    margin: float


@dataclass(frozen=True)
class Chart:
    """A line chart as the template draws it, in the units of its viewBox."""

    title: str
    summary: str
    line: str
    stages: list[Stage]
    y_ticks: list[tuple[float, str]]
    first_step: int
    last_step: int

    LEFT, TOP, WIDTH, HEIGHT = 44, 34, 290, 130


def write_report(path: str | os.PathLike, report: Report) -> None:
    """Writes the page atomically.

    Raises:
        DataError: a figure is missing or not finite, a table is empty, or an image cannot be read.
        OutputError: the disk is full or the folder cannot be written.
    """
    _validate(report)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"thumbnail": _thumbnail, "seconds": _seconds, "bytes": _bytes, "scientific": _scientific}
    shown = _choose(report.queries)
    page = environment.get_template(TEMPLATE.name).render(
        title=report.title,
        figures=report.figures,
        members_mean=float(np.mean(list(report.figures["map100"]["members"].values()))),
        parity=[row | {"passed": _passed(row)} for row in report.figures["parity"]],
        charts={name: _charts(points) for name, points in report.curves.items()},
        queries=shown,
        query_count=len(report.queries),
        median=shown[len(shown) // 2] if len(shown) > 2 else None,
        hits_shown=HITS_SHOWN,
        sizes_px={"hit": THUMBNAIL, "query": QUERY_THUMBNAIL},
        commands=COMMANDS,
    )
    with new_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _passed(row: dict) -> bool:
    """Whether a parity row is within its tolerance; NaN never is."""
    return row["max_abs"] <= row["tolerance"] and math.isfinite(row["cosine"])


def _choose(queries: Sequence[QueryRow]) -> list[QueryRow]:
    """`QUERIES_SHOWN` queries, evenly spaced from the best AP to the worst, the median in their middle."""
    ordered = sorted(queries, key=lambda query: (-query.average_precision, query.image_id))
    if len(ordered) <= QUERIES_SHOWN:
        return ordered
    middle, half = len(ordered) // 2, QUERIES_SHOWN // 2
    upper = np.linspace(0, middle, half + 1).round().astype(int)
    lower = np.linspace(middle, len(ordered) - 1, QUERIES_SHOWN - half).round().astype(int)
    return [ordered[place] for place in np.union1d(upper, lower)]


def _charts(points: list[dict]) -> list[Chart]:
    return [
        _chart("Loss", points, "loss", _compact),
        _chart("Accuracy on the batch", points, "accuracy", lambda value: f"{value:.0%}"),
        _chart("Learning rate", points, "learning_rate", _compact),
    ]


def _chart(title: str, points: list[dict], key: str, label: Callable[[float], str]) -> Chart:
    first, last = points[0]["step"], points[-1]["step"]
    top = _round_up(max(point[key] for point in points))

    def x(step: float) -> float:
        return Chart.LEFT + Chart.WIDTH * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        return Chart.TOP + Chart.HEIGHT * (1 - value / top)

    stages = [list(group) for _, group in groupby(points, key=lambda point: point["stage"])]
    edges = [x(group[0]["step"]) for group in stages] + [x(last)]
    return Chart(
        title=title,
        summary=f"{title}: {label(points[0][key])} at step {first}, {label(points[-1][key])} at step {last}.",
        line=" ".join(f"{x(point['step']):.1f},{y(point[key]):.1f}" for point in points),
        stages=[
            Stage(edge, end - edge, group[0]["resolution"], group[0]["margin"])
            for group, (edge, end) in zip(stages, pairwise(edges), strict=True)
        ],
        y_ticks=[(y(part * top), label(part * top)) for part in (0, 0.5, 1)],
        first_step=first,
        last_step=last,
    )


def _round_up(value: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 2, 5, 10) if step * scale >= value * (1 - 1e-9))


def _thumbnail(path: Path, size: int) -> str:
    """A `data:` URI with the middle square of a photograph, `size` pixels wide."""
    with open_image(path) as photograph:
        photograph.draft("RGB", (2 * size, 2 * size))
        square = ImageOps.fit(ImageOps.exif_transpose(photograph).convert("RGB"), (size, size))
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _seconds(value: float) -> str:
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{value:.1f} s"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def _scientific(value: float, digits: int = 1) -> str:
    """For example 2.4 × 10⁻⁷; 0, infinity and NaN are unchanged."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _compact(value: float) -> str:
    return f"{value:.3g}"


def _validate(report: Report) -> None:
    figures = report.figures
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
    for name, points in report.curves.items():
        if not points:
            raise _incomplete(f"curves[{name!r}] is empty")
        for place, point in enumerate(points):
            _finite(point, POINT_KEYS, f"curves[{name!r}][{place}]")
    if not report.queries:
        raise _incomplete("queries is empty")
    for query in report.queries:
        _finite(vars(query), ("average_precision",), f"query {query.image_id!r}")


def _table(parent: dict, key: str, where: str, keys: Sequence[str] = ()) -> Any:
    """`parent[key]`, a dict or a list, which must not be empty and must have all of `keys`."""
    _require(parent, (key,), where)
    if not parent[key]:
        raise _incomplete(f"{where}[{key!r}] is empty")
    _require(parent[key], keys, f"{where}[{key!r}]")
    return parent[key]


def _finite(table: dict, keys: Iterable[str], where: str) -> None:
    _require(table, keys, where)
    for key in keys:
        if not isinstance(table[key], numbers.Real) or not math.isfinite(table[key]):
            raise _incomplete(f"{where}[{key!r}] is {table[key]!r}, expected a finite number")


def _require(table: dict, keys: Iterable[str], where: str) -> None:
    missing = next((key for key in keys if key not in table), None)
    if missing is not None:
        raise _incomplete(f"{where} lacks {missing!r}, found {', '.join(map(str, table)) or 'nothing'}")


def _incomplete(problem: str) -> DataError:
    return DataError(
        f"the report cannot be written: {problem}. Run the steps that measure it, then write the report again."
    )
