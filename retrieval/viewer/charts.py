"""Training curves as line charts: one chart per quantity, one line per model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

from retrieval.viewer.figures import POINT_KEYS

LINES = 6
"""Colours of lines in report.css; more models than this begin again with the first."""
POINTS = 60
"""Points of a line, about: a training has up to millions of steps, and the loss of one batch says little."""


@dataclass(frozen=True)
class Stage:
    """One training stage on a chart: its left edge and width in chart units, and what is trained in it."""

    x: float
    width: float
    resolution: int
    margin: float


@dataclass(frozen=True)
class Line:
    """One model's curve: its name, the number of its colour, and the points of an SVG polyline."""

    name: str
    colour: int
    points: str


@dataclass(frozen=True)
class Chart:
    """A line chart as the template draws it, in the units of its viewBox."""

    title: str
    summary: str
    lines: list[Line]
    stages: list[Stage]
    y_ticks: list[tuple[float, str]]
    first_step: int
    last_step: int

    LEFT, TOP, WIDTH, HEIGHT = 44, 34, 290, 130


def steps_per_point(curves: Mapping[str, Sequence[Mapping]]) -> int:
    """How many logged steps a point is the mean of."""
    return max(1, max(map(len, curves.values()), default=0) // POINTS)


def charts(curves: Mapping[str, Sequence[Mapping]]) -> list[Chart]:
    """Loss, accuracy and learning rate of every model; nothing if there are no models.

    Args:
        curves: model name → one mapping per logged step, with the keys `retrieval.viewer.figures.POINT_KEYS`, never empty.
    """
    if not curves:
        return []
    block = steps_per_point(curves)
    steps = (
        min(points[0]["step"] for points in curves.values()),
        max(points[-1]["step"] for points in curves.values()),
    )
    curves = {name: _means(points, block) for name, points in curves.items()}
    return [
        _chart("Loss", curves, steps, "loss", _compact),
        _chart("Accuracy on the batch", curves, steps, "accuracy", lambda value: f"{value:.0%}"),
        _chart("Learning rate", _distinct(curves), steps, "learning_rate", _compact),
    ]


def _means(points: Sequence[Mapping], block: int) -> list[Mapping]:
    """Means of `block` points of one stage each; the last of a stage may be of fewer."""
    found = []
    for _, group in groupby(points, key=lambda point: point["stage"]):
        stage = list(group)
        for start in range(0, len(stage), block):
            part = stage[start : start + block]
            found.append({key: fmean(point[key] for point in part) for key in POINT_KEYS})
    return found


def _distinct(curves: Mapping[str, Sequence[Mapping]]) -> dict[str, Sequence[Mapping]]:
    """One model if all have the same learning rates, as models of one recipe have."""
    rates = {name: [(point["step"], point["learning_rate"]) for point in points] for name, points in curves.items()}
    first = next(iter(curves))
    same = all(found == rates[first] for found in rates.values())
    return {"all models": curves[first]} if same and len(curves) > 1 else dict(curves)


def _chart(
    title: str,
    curves: Mapping[str, Sequence[Mapping]],
    steps: tuple[int, int],
    key: str,
    label: Callable[[float], str],
) -> Chart:
    points = max(curves.values(), key=lambda points: points[-1]["step"])
    first, last = steps
    top = _round_up(max(point[key] for points in curves.values() for point in points))

    def x(step: float) -> float:
        return Chart.LEFT + Chart.WIDTH * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        return Chart.TOP + Chart.HEIGHT * (1 - value / top)

    def line(points: Sequence[Mapping]) -> str:
        return " ".join(f"{x(point['step']):.1f},{y(point[key]):.1f}" for point in points)

    stages = [list(group) for _, group in groupby(points, key=lambda point: point["stage"])]
    edges = [x(group[0]["step"]) for group in stages] + [x(last)]
    ends = ", ".join(f"{name} {label(points[-1][key])}" for name, points in curves.items())
    return Chart(
        title=title,
        summary=f"{title} at step {last}: {ends}.",
        lines=[Line(name, number % LINES, line(points)) for number, (name, points) in enumerate(curves.items())],
        stages=[
            Stage(edge, end - edge, round(group[0]["resolution"]), group[0]["margin"])
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


def _compact(value: float) -> str:
    return f"{value:.3g}"
