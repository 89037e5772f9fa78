"""The report: one HTML page with what was found for every query, which loads nothing from anywhere.

The page has its data inside it: numbers as packed arrays, texts as JSON, and every picture once (`retrieval.viewer.thumbnails`).
`report.js` makes the rows that are in view. The page's policy allows this one script and `report.css` by their hashes, pictures
from `data:` addresses, and nothing else; texts from a data set are written by Jinja with escaping, or by the script as text.
"""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from retrieval.comparison import Comparison, bootstrap_interval, compare, sentence
from retrieval.data.gldv2 import Gldv2
from retrieval.data.sources import open_source
from retrieval.pages import PALETTE, template_environment
from retrieval.viewer import figures as run_figures
from retrieval.viewer.charts import charts, steps_per_point
from retrieval.viewer.confusions import confusions, landmark_scores
from retrieval.viewer.figures import Run, parity_rows, require_complete, size_table
from retrieval.viewer.packing import packed, script_json
from retrieval.viewer.results import HITS, Results
from retrieval.viewer.thumbnails import Thumbnails, thumbnails
from zoo.errors import DataError
from zoo.files import new_file

TEMPLATE, STYLE, SCRIPT = (Path(__file__).with_name(f"report.{kind}") for kind in ("html.j2", "css", "js"))
PICTURED = 20_000
"""Index images with a picture, at most; others are named without one."""
HARDEST = 12
"""Queries in the plain list, which is what is printed and what readers without JavaScript see."""
HARDEST_HITS = 5
LANDMARK_ROWS, CONFUSION_ROWS = 300, 100


@dataclass(frozen=True, eq=False)
class Other:
    """Another ranking of the same queries: its name, and AP@100 of each query float64 [Q]."""

    name: str
    precisions: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """The content of the page.

    Attributes:
        title: the heading.
        results: of the ranking.
        pictures: of the queries and then of the first index images, in the order of `results`.
        configuration: what made the ranking: name → value.
        other: a ranking to compare with.
        positions: `retrieval.viewer.descriptor_map`.
        no_map: why there is no map, and how to get one, if `positions` is None.
        run: what a pipeline measured.
    """

    title: str
    results: Results
    pictures: Thumbnails
    configuration: Mapping[str, str] = field(default_factory=dict)
    other: Other | None = None
    positions: np.ndarray | None = None
    no_map: str = ""
    run: Run | None = None


def pictures_of(dataset: Gldv2, results: Results) -> Thumbnails:
    """The pictures of a report, from files or tars."""
    test, index = (open_source(dataset, split) for split in ("test", "index"))
    wanted = [(test, query) for query in results.query_ids]
    return thumbnails(wanted + [(index, image) for image in results.image_ids[:PICTURED]])


def write_report(path: str | os.PathLike, report: Report) -> None:
    """Writes the page atomically.

    Raises:
        DataError: a figure of the run is missing or not finite, or a table is empty.
        OutputError: the disk is full or the folder cannot be written.
    """
    if report.run:
        require_complete(report.run)
    _require_aligned(report)
    style, script = f"{_text(PALETTE)}\n{_text(STYLE)}", _text(SCRIPT)
    page = (
        _environment()
        .get_template(TEMPLATE.name)
        .render(
            title=report.title,
            policy=_policy(style, script),
            style=Markup(style),
            script=Markup(script),
            data=Markup(script_json(_data(report))),
            pictures=Markup(report.pictures.text),
            results=report.results,
            summary=_summary(report.results),
            hardest=_hardest(report),
            landmarks=landmark_scores(report.results),
            confusions=confusions(report.results),
            limits={"landmarks": LANDMARK_ROWS, "confusions": CONFUSION_ROWS, "hits": HITS, "pictured": PICTURED},
            unreadable=report.pictures.unreadable,
            configuration=report.configuration,
            other=report.other,
            comparison=_comparison(report),
            has_map=report.positions is not None,
            no_map=report.no_map,
            run=_run(report.run) if report.run else None,
        )
    )
    with new_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _environment() -> Environment:
    environment = template_environment(TEMPLATE.parent)
    environment.filters |= {name: getattr(run_figures, name) for name in ("seconds", "byte_size", "scientific")}
    environment.filters["sentence"] = lambda figures: sentence(figures).replace("-", "−")
    environment.filters["breakable"] = lambda text: Markup("_<wbr>").join(str(text).split("_"))
    return environment


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _policy(style: str, script: str) -> str:
    """What the page may load and run: its own style and script, by hash, and pictures in it."""

    def allowed(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

    return (
        f"default-src 'none'; script-src {allowed(script)}; style-src {allowed(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _data(report: Report) -> dict[str, Any]:
    """What report.js reads."""
    results, count = report.results, len(report.results.query_ids)
    arrays = {
        "queryLandmarks": results.query_landmarks,
        "imageLandmarks": results.image_landmarks,
        "hits": results.hits,
        "correct": results.correct.astype(np.uint8),
        "distances": results.distances,
        "cosines": results.cosines,
        "precisions": results.precisions.astype(np.float32),
        "found": results.found,
        "relevant": results.relevant,
        "missed": np.array([image for images in results.missed for image in images], np.int32),
        "missedEnds": np.cumsum([len(images) for images in results.missed], dtype=np.uint32),
        "pictureEnds": report.pictures.ends,
    }
    if report.other:
        arrays["otherPrecisions"] = report.other.precisions.astype(np.float32)
    if report.positions is not None:
        arrays["positions"] = report.positions
    return {
        "queries": list(results.query_ids),
        "images": list(results.image_ids),
        "landmarks": list(results.landmarks),
        "hitsShown": HITS,
        "pictured": len(report.pictures.ends) - count,
        "pictureSide": report.pictures.side,
        "otherName": report.other.name if report.other else None,
        "arrays": {name: packed(array) for name, array in arrays.items()},
    }


def _summary(results: Results) -> dict[str, Any]:
    """The figures at the top of the page."""
    low, high = bootstrap_interval(results.precisions)
    ranks = results.first[results.first > 0]
    return {
        "map": float(results.precisions.mean()),
        "interval": (low, high),
        "first_right": float((results.first == 1).mean()),
        "found": int(results.found.sum()),
        "relevant": int(results.relevant.sum()),
        "median_first": float(np.median(ranks)) if len(ranks) else None,
        "nothing_found": int((results.first == 0).sum()),
        "public": int(results.public.sum()),
    }


def _hardest(report: Report) -> list[dict[str, Any]]:
    """The queries with the lowest AP, as the template shows them."""
    results = report.results
    order = np.lexsort((-results.relevant, results.precisions))[:HARDEST]
    return [
        {
            "id": results.query_ids[query],
            "landmark": results.landmarks[results.query_landmarks[query]],
            "precision": float(results.precisions[query]),
            "found": int(results.found[query]),
            "relevant": int(results.relevant[query]),
            "picture": report.pictures.address(query),
            "hits": [_hit(report, query, place) for place in range(HARDEST_HITS) if results.hits[query, place] >= 0],
        }
        for query in map(int, order)
    ]


def _hit(report: Report, query: int, place: int) -> dict[str, Any]:
    results = report.results
    image = int(results.hits[query, place])
    picture, landmark = len(results.query_ids) + image, int(results.image_landmarks[image])
    return {
        "id": results.image_ids[image],
        "landmark": results.landmarks[landmark] if landmark >= 0 else None,
        "correct": bool(results.correct[query, place]),
        "picture": report.pictures.address(picture) if picture < len(report.pictures.ends) else "",
    }


def _comparison(report: Report) -> Comparison | None:
    return compare(report.results.precisions, report.other.precisions) if report.other else None


def _run(run: Run) -> dict[str, Any]:
    """The parts of the page that only a pipeline's run has."""
    kinds, sizes = size_table(run.figures["sizes"])
    rows = parity_rows(run.figures["parity"])
    return {
        "figures": run.figures,
        "members_mean": float(np.mean(list(run.figures["map100"]["members"].values()))),
        "parity": rows,
        "passed": sum(row["passed"] for row in rows),
        "charts": charts(run.curves),
        "mean_of": steps_per_point(run.curves),
        "size_kinds": kinds,
        "sizes": sizes,
        "commands": run.commands,
    }


def _require_aligned(report: Report) -> None:
    """Raises `DataError` if parts of a report are of other queries or images."""
    queries, images = len(report.results.query_ids), len(report.results.image_ids)
    lengths = [("pictures", len(report.pictures.ends), queries + min(images, PICTURED))]
    if report.other:
        lengths.append(("precisions of the other ranking", len(report.other.precisions), queries))
    if report.positions is not None:
        lengths.append(("positions on the map", len(report.positions), queries + images))
    for what, found, expected in lengths:
        if found != expected:
            raise DataError(f"the report cannot be written: expected {expected:,} {what}, found {found:,}.")
