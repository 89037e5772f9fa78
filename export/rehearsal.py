"""A dress rehearsal of a submission: submission.zip in a real TensorFlow 2.2, unzipped and called as the contest's scorer does."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from export import parity, tf22
from export.parity.probes import picture
from retrieval.data.csv_tables import read_rows
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import UnreadableImageError, decode, read_image
from retrieval.data.sources import ImageSource, open_source
from zoo import contest
from zoo.command import log
from zoo.disk import temporary_folder
from zoo.errors import DataError, SubmissionError
from zoo.manifest import versions

HEIGHT, WIDTH = 600, 800
"""Of the photographs whose time is taken; the longer side of most of the contest's images is 800."""
QUALITY = 90
"""Of their JPEG: about 120 KB, as photographs of this size have."""
PHOTOGRAPHS = {"test": 4, "index": 12}
LARGEST = 1000
"""Images of a data set that are ranked at most; of a larger one, a seeded choice is."""
TIE = 5e-3
"""Over √D, in units of the descriptors' norm: two images whose distances differ by less may come in either order. Storing
embeddings as float16 moves a distance by at most 2e-3/√D (24,000 distances of random unit vectors for each D of 64, 256, 512 and
2048; 22,400 of the demo's ensemble), so two towards each other by twice that; times 1.25."""


@dataclass(frozen=True)
class Ranked:
    """How TensorFlow 2.2 ranked a data set.

    Attributes:
        queries, images: how many were ranked and searched.
        same: queries whose images came in exactly the expected order; the others' differ by ties only.
        chosen: whether they are a choice of a larger data set.
    """

    queries: int
    images: int
    same: int
    chosen: bool


@dataclass(frozen=True)
class Rehearsal:
    """What TensorFlow 2.2 made of a submission.

    Attributes:
        tensorflow: its version.
        reference: version of the current TensorFlow.
        difference: between their descriptors of the photographs.
        images_per_second: 800×600 photographs, decoded and embedded one by one.
        ranked: None if no data set was ranked.
    """

    tensorflow: str
    reference: str
    difference: parity.Row
    images_per_second: float
    ranked: Ranked | None

    @property
    def hours(self) -> float:
        """What the contest's images take at this speed."""
        return contest.IMAGES / self.images_per_second / 3600


def rehearse(
    submission: Path, saved_model: Path, python: Path, data: Path | None = None, predictions: Path | None = None
) -> Rehearsal:
    """Scores a submission in TensorFlow 2.2 and compares it with the model that it was packed from.

    Args:
        submission: submission.zip.
        saved_model: the SavedModel that is in it.
        python: the python that has TensorFlow 2.2.
        data: a data set, whose ranking should be that of `predictions`.
        predictions: a predictions file (id,images) of that data set, made with `saved_model`.

    Raises:
        SubmissionError: TensorFlow 2.2 refuses the submission, its descriptors are not those of the current TensorFlow, or it
            ranks the data set in another order.
        DataError: the predictions name images that the data set does not have.
        ExportError: TensorFlow 2.2 failed in another way.
    """
    chosen = _choose(Gldv2(data), predictions) if data and predictions else None  # its errors come before the work
    tensorflow, row, seconds = _photographs(submission, saved_model, python)
    ranked = _rank(submission, python, chosen, predictions) if chosen and predictions else None
    return Rehearsal(tensorflow, versions("tensorflow")["tensorflow"], row, 1 / seconds, ranked)


def _photographs(submission: Path, saved_model: Path, python: Path) -> tuple[str, parity.Row, float]:
    """The version of TensorFlow 2.2, its difference from the current TensorFlow, and its seconds per photograph."""
    # Not above: it imports ONNX Runtime, and packing without a rehearsal does not.
    from export.parity.everywhere import run_current

    random, images = np.random.default_rng(2022), {}
    with temporary_folder() as folder:
        for split, count in PHOTOGRAPHS.items():
            (folder / split).mkdir()
            for number in range(count):
                path = folder / split / f"{split}{number}.jpg"
                pixels = picture(random, HEIGHT, WIDTH).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(path, "JPEG", quality=QUALITY)
                images[path.stem] = read_image(path)
        scored = tf22.score(submission, folder / "test", folder / "index", python=python)
        expected = run_current(saved_model, {}, images)[1]
    row = parity.measure("savedmodel → tf 2.2", submission.name, expected, _descriptors(scored))
    if not row.passed:
        raise SubmissionError(
            f"{submission.name} does not do in TensorFlow {scored['tensorflow']} what {saved_model} does in the current TensorFlow:\n"
            f"  {row}\nExport the model again."
        )
    return scored["tensorflow"], row, scored["seconds_per_image"]


def _descriptors(scored: Mapping) -> dict[str, np.ndarray]:
    sides = (("query_ids", "queries"), ("index_ids", "index"))
    return {name: row for ids, rows in sides for name, row in zip(scored[ids], scored[rows], strict=True)}


@dataclass(frozen=True)
class _Choice:
    """The images of a data set that are ranked.

    Attributes:
        sources: of the images, by split.
        queries, index: ids of images that can be read.
        expected: the ranking of each query.
        of_larger: whether they are a part of the data set.
    """

    sources: dict[str, ImageSource]
    queries: list[str]
    index: list[str]
    expected: dict[str, tuple[str, ...]]
    of_larger: bool


def _choose(dataset: Gldv2, predictions: Path) -> _Choice:
    """Every query of the predictions with the whole index, or of a larger data set some queries with their hits and others."""
    expected = _read_predictions(predictions)
    index = dataset.named_ids("index")
    _require_known(predictions, "index", {hit for hits in expected.values() for hit in hits}, set(index))
    _require_known(predictions, "test", expected.keys(), set(dataset.named_ids("test")))
    larger = len(expected) + len(index) > LARGEST
    if larger:
        random = np.random.default_rng(2022)
        # Half of the images are hits, and the others were found by none of these queries or only by others.
        most = max(1, LARGEST // 2 // (1 + max(map(len, expected.values()))))
        names = sorted(expected)
        expected = {names[n]: expected[names[n]] for n in random.permutation(len(names))[:most]}
        wanted = {hit for hits in expected.values() for hit in hits}
        others = [name for name in index if name not in wanted]
        wanted |= {others[n] for n in random.permutation(len(others))[: LARGEST - len(expected) - len(wanted)]}
        index = tuple(name for name in index if name in wanted)
    sources = {split: open_source(dataset, split) for split in ("test", "index")}
    queries = _readable(sources["test"], expected)
    if not queries:
        raise DataError(f"{dataset.root}: expected images to rank, found none that can be read.")
    return _Choice(sources, queries, _readable(sources["index"], index), expected, larger)


def _readable(source: ImageSource, names: Iterable[str]) -> list[str]:
    """Those that can be read: embedding leaves the others out, and the scorer would stop at them."""
    found = []
    for name in names:
        try:
            decode(source.read(name), source.place(name))
        except UnreadableImageError as error:
            log(f"left out: {error}")
            continue
        found.append(name)
    return found


def _read_predictions(path: Path) -> dict[str, tuple[str, ...]]:
    advice = "Make it with `landmark-zoo search --index … --queries … --out …`."
    found = {}
    for line, (name, images) in read_rows(path, ("id", "images"), advice=advice):
        hits = tuple(images.split())
        if name in found or len(set(hits)) < len(hits):
            raise DataError(
                f"{path}:{line}: expected each query and each of its images once, found one twice. {advice}"
            )
        if hits:
            found[name] = hits
    if not found:
        raise DataError(f"{path}: expected the ranking of at least one query, found none. {advice}")
    return found


def _require_known(predictions: Path, split: str, named: Iterable[str], known: set[str]) -> None:
    if unknown := sorted(set(named) - known):
        raise DataError(
            f"{predictions} names {len(unknown):,} images that are not in the data set's {split} split, first {unknown[0]!r}. "
            "Pass the data set that was searched."
        )


def _rank(submission: Path, python: Path, choice: _Choice, predictions: Path) -> Ranked:
    """Raises `SubmissionError` if TensorFlow 2.2 ranks a data set in another order than the predictions."""
    with temporary_folder() as folder:
        for split, names in (("test", choice.queries), ("index", choice.index)):
            (folder / split).mkdir()
            for name in names:
                (folder / split / f"{name}.jpg").write_bytes(choice.sources[split].read(name))
        scored = tf22.score(submission, folder / "test", folder / "index", python=python)
    index = scored["index"].astype(np.float64)
    tie = TIE / math.sqrt(index.shape[1]) * float(np.median(np.linalg.norm(index, axis=1)))
    same = 0
    for name, query in zip(scored["query_ids"], scored["queries"].astype(np.float64), strict=True):
        away = dict(zip(scored["index_ids"], np.linalg.norm(index - query, axis=1).tolist(), strict=True))
        hits = [hit for hit in choice.expected[name] if hit in away]
        _require_order(submission, name, hits, away, tie, predictions)
        same += hits == scored["predictions"][name][: len(hits)]
    return Ranked(len(choice.queries), len(choice.index), same, choice.of_larger)


def _require_order(
    submission: Path, query: str, hits: Sequence[str], away: Mapping[str, float], tie: float, predictions: Path
) -> None:
    """Raises `SubmissionError` unless the hits are the nearest images, nearest first, but for ties.

    Args:
        query, hits: a query, and the images found for it in the expected order.
        away: the distance of each image in TensorFlow 2.2.
        tie: distances that differ by less are equal.
    """
    others = away.keys() - set(hits)
    nearest_other = min((away[other] for other in others), default=np.inf)
    found = np.array([away[hit] for hit in hits])
    # At each rank the nearest of what is left.
    left = np.minimum(np.minimum.accumulate(found[::-1])[::-1], nearest_other)
    if (found <= left + tie).all():
        return
    rank = int(np.argmax(found > left + tie))
    raise SubmissionError(
        f"{submission.name}: TensorFlow 2.2 ranks query {query!r} otherwise than {predictions}: at rank {rank + 1} it expects "
        f"{hits[rank]!r} at distance {found[rank]:.5f}, and another image is at {left[rank]:.5f}. Embed and search the data "
        "set again with this SavedModel; if they still differ, export the model again."
    )
