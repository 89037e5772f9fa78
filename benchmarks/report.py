"""Size of the report, seconds to write it, and how fast a browser opens it, up to 5,000 queries and 20,000 pictures of the index.

Example:
    python -m benchmarks.report

Queries, index images and descriptors are made up; an image is one of a few hundred JPEGs of 800 × 600 pixels with the spectrum of
photographs, decoded anew for each picture, and every picture stands in the page by itself. The page has all its parts: landmarks,
confusions, a comparison, and a map, whose positions are random; how long a real map takes is measured on clustered descriptors.

- pictures: decoding the images and encoding their pictures.
- page: numbers, tables and the file.
- ready: Chromium's DOMContentLoaded, after which the list can be used, from the disk; the median of several openings.
- images: elements that exist then, in the list's part of the page.

The last line of stdout is the path of the JSON file with all figures.
"""

import argparse
import io
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.results_files import write_results
from retrieval.data.landmarks import IndexLandmarks
from retrieval.embeddings import Embeddings
from retrieval.ranking import Ranking
from retrieval.solution import RetrievalSolution
from retrieval.viewer.descriptor_map import descriptor_map
from retrieval.viewer.report import PICTURED, Other, Report, write_report
from retrieval.viewer.results import Results, results
from retrieval.viewer.similarities import Sides
from retrieval.viewer.thumbnails import thumbnails
from tests.browser import NAMES, open_browser
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.disk import temporary_folder
from zoo.strict import Count

CASES = ((72, 280), (1000, 8000), (5000, 20_000))
"""Queries and index images; the last is the one that the targets are for."""
MEGABYTES, SECONDS = 40, 1
"""Targets of the largest case: at most so many, and ready in less."""
MAP_POINTS = 8000
PER_LANDMARK = 10
DRAWN = 300
SIZE = (800, 600)


@dataclass(frozen=True)
class Photographs:
    """An `ImageSource` that has a few hundred images; an id, which is hexadecimal, is one of them."""

    files: list[bytes]

    def read(self, image_id: str) -> bytes:
        return self.files[int(image_id, 16) % len(self.files)]

    def place(self, image_id: str) -> str:
        return image_id

    def size(self, image_id: str) -> int | None:
        return len(self.read(image_id))

    def changed(self, image_id: str) -> int | None:
        return 0


def draw(count: int, seed: int = 0) -> Photographs:
    """JPEGs of coloured noise whose amplitude falls with the frequency, as that of photographs does."""
    random, files = np.random.default_rng(seed), []
    width, height = SIZE
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / width
    for _ in range(count):
        noise = np.fft.rfft2(random.normal(size=(3, height, width))) / frequency**1.4
        field = np.fft.irfft2(noise, (height, width))
        field = field[:1] + 0.4 * field  # the channels of photographs are much alike
        pixels = np.clip(128 + 55 * field / field.std(), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, "JPEG", quality=88)
        files.append(buffer.getvalue())
    return Photographs(files)


def make_results(queries: int, images: int, seed: int = 0) -> Results:
    """A ranking in which a query finds between none and all of the images of its landmark among its first hits."""
    random = np.random.default_rng(seed)
    landmarks = max(1, images // PER_LANDMARK)
    index_ids = tuple(f"{number:016x}" for number in range(images))
    query_ids = tuple(f"{number:016x}" for number in range(images, images + queries))
    of_query = random.integers(landmarks, size=queries)
    own = of_query[:, None] * PER_LANDMARK + np.arange(PER_LANDMARK)
    rows = random.integers(images, size=(queries, 100))
    skill = random.random((queries, 1))
    rows[:, :PER_LANDMARK] = np.where(random.random(own.shape) < skill, own, rows[:, :PER_LANDMARK])
    distances = np.sort(random.uniform(0.4, 1.2, rows.shape), axis=1).astype(np.float32)
    truth = {query: tuple(index_ids[row] for row in relevant) for query, relevant in zip(query_ids, own, strict=True)}
    named = {image: row // PER_LANDMARK for row, image in enumerate(index_ids)}
    table = IndexLandmarks(named, {number: f"Landmark {number}" for number in range(landmarks)})
    ranking = Ranking(query_ids, index_ids, rows.astype(np.int32), distances)
    return results(ranking, RetrievalSolution({}, truth, []), table)


def measure(queries: int, images: int, source: Photographs, folder: Path, openings: int) -> dict[str, Any]:
    """One case: size, seconds, and the browser's figures if there is one."""
    made = make_results(queries, images)
    random = np.random.default_rng(0)
    wanted = [(source, name) for name in (*made.query_ids, *made.image_ids[:PICTURED])]
    began = time.perf_counter()
    pictures = thumbnails(wanted)
    pictured = time.perf_counter()
    report = Report(
        f"{queries:,} queries",
        made,
        pictures,
        other=Other("other", random.permutation(made.precisions)),
        positions=random.integers(0, 65535, (queries + len(made.image_ids), 2)).astype(np.uint16),
    )
    page = folder / f"{queries}.html"
    write_report(page, report)
    return {
        "queries": queries,
        "images": len(pictures.ends) - queries,
        "side": pictures.side,
        "megabytes": page.stat().st_size / 1e6,
        "seconds": {"pictures": pictured - began, "page": time.perf_counter() - pictured},
        "browser": open_page(page, openings) if has_browser() else None,
    }


def has_browser() -> bool:
    """Whether Chromium and its driver are installed."""
    return any(map(shutil.which, NAMES)) and shutil.which("chromedriver") is not None


def open_page(page: Path, openings: int) -> dict[str, float]:
    """Seconds until a page is ready, and the elements that exist then."""
    ready = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000"
    seconds = []
    chrome = open_browser()
    try:
        for _ in range(openings):
            chrome.get("about:blank")
            chrome.get(f"{page.as_uri()}#queries")
            seconds.append(chrome.execute_script(ready))
        rows, shown, every = chrome.execute_script(
            "const shown = document.querySelectorAll('.row img').length;"
            "return [document.querySelectorAll('.row').length, shown, document.images.length]"
        )
    finally:
        chrome.quit()
    return {"ready": median(seconds), "rows": rows, "images": shown, "all_images": every}


def measure_map(points: int) -> float:
    """Seconds to place clustered descriptors of 512 dimensions on a map."""
    random = np.random.default_rng(0)
    queries = points // 5
    made = make_results(queries, points - queries)
    landmarks = random.normal(size=(len(made.landmarks), 512))

    def near(numbers: np.ndarray) -> np.ndarray:
        rows = landmarks[numbers] + 0.7 * random.normal(size=(len(numbers), 512))
        return rows.astype(np.float32)

    index = Embeddings(tuple(made.image_ids), near(made.image_landmarks), {})
    began = time.perf_counter()
    descriptor_map(made, Sides(index, Embeddings(tuple(made.query_ids), near(made.query_landmarks), {})))
    return time.perf_counter() - began


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| queries | pictures of the index | px | MB | pictures, s | page, s | ready, s | rows | images in them |"]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in found["cases"]:
        browser = row["browser"]
        shown = [f"{browser['ready']:.2f}", browser["rows"], browser["images"]] if browser else ["–", "–", "–"]
        seconds = row["seconds"]
        cells = [f"{row['queries']:,}", f"{row['images']:,}", row["side"], f"{row['megabytes']:.1f}"]
        cells += [f"{seconds['pictures']:.0f}", f"{seconds['page']:.1f}", *shown]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    map_ = f"A map of {found['map']['points']:,} descriptors takes {found['map']['seconds']:.0f} s."
    lines += ["", f"{_verdict(found['cases'][-1])} {map_}"]
    return "\n".join(lines)


def _verdict(row: dict[str, Any]) -> str:
    size = f"{row['megabytes']:.1f} MB of at most {MEGABYTES}: {_met(row['megabytes'] <= MEGABYTES)}"
    if not row["browser"]:
        return f"Targets: {size}."
    ready = row["browser"]["ready"]
    return f"Targets: {size}; ready in {ready:.2f} s of less than {SECONDS}: {_met(ready < SECONDS)}."


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", type=ranged(Count), default=DRAWN, help="JPEGs that are drawn; default: %(default)s")
    parser.add_argument("--openings", type=ranged(Count), default=5, help="of each page; default: %(default)s")
    parser.add_argument("--map-points", type=ranged(Count), default=MAP_POINTS, help="default: %(default)s")
    parser.add_argument("--out", type=given_path, help="JSON to write (default: benchmarks/results/report.json)")
    given = parser.parse_args()
    source = draw(given.drawn)
    with temporary_folder() as folder:
        cases = [measure(queries, images, source, folder, given.openings) for queries, images in CASES]
        log(f"a map of {given.map_points:,} points")
        found = {"cases": cases, "map": {"points": given.map_points, "seconds": measure_map(given.map_points)}}
    print(table(found))
    print(write_results("report", found, given.out))


if __name__ == "__main__":
    run(main)
