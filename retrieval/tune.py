"""Re-ranking parameters and a whitening, chosen on the training set; the queries of the test set are not looked at.

Example:
    python -m retrieval.tune --train train --data DATA --out rerank.json
    python -m retrieval.search --index index --queries test --rerank rerank.json --out predictions.csv

In rounds, one image of every landmark is left out and is a query against all other training images. A grid of alpha query
expansion, database augmentation, k-reciprocal re-ranking and their combinations is tried. The best counts as a help if its gain in
mAP@100 is shown: p < 0.05 of the paired randomisation test, multiplied by the number of ways that were tried (Bonferroni). Then the one with
the fewest parts and neighbours is chosen among those that it is not shown to beat; otherwise nothing. So is a whitening, fitted in each
round without the queries; as the last layer of the model it is made by another command, which is printed. Of a large training set whole
landmarks are drawn at random, and as many rounds are made as the queries need.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval import rerank
from retrieval.comparison import SIGNIFICANCE, Comparison, compare
from retrieval.data.gldv2 import Gldv2
from retrieval.devices import choose_device
from retrieval.exact import search
from retrieval.expansion import Expansion
from retrieval.leave_one_out import Labelled, Round, joined
from retrieval.metrics import CONTEST_K, average_precisions
from retrieval.neighbours import Neighbours, other_neighbours
from retrieval.ranking import Ranking
from retrieval.reciprocal import KReciprocal
from retrieval.rerank import NONE, Reranking, write_reranking
from retrieval.store import open_rows
from retrieval.whitening import Directions, find_directions
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.files import output_file
from zoo.strict import Count, Seed

IMAGES, QUERIES = 20_000, 1000
"""Defaults: about how many images of a large training set take part, and how many of them are queries."""
EXPANSIONS = tuple(Expansion(count, alpha) for count in (1, 2, 3, 5, 10, 20) for alpha in (1.0, 3.0))
RECIPROCALS = tuple(
    KReciprocal(k1, k2, weight) for k1, k2 in ((5, 2), (10, 3), (20, 6), (30, 6)) for weight in (0.1, 0.3, 0.5)
)
EXPANDED = (
    *(Reranking(expand_queries=expansion) for expansion in EXPANSIONS),
    *(Reranking(augment_database=expansion) for expansion in EXPANSIONS),
    *(Reranking(expansion, expansion) for expansion in EXPANSIONS),
)
RECIPROCAL = tuple(Reranking(k_reciprocal=reciprocal) for reciprocal in RECIPROCALS)
DIMENSIONS, SHRINKAGES = (64, 128, 256, 512, 1024), (0.3, 1.0, 3.0)
_ENOUGH = 0.8
"""Part of the directions in which an index varies up to which whitenings are tried; the others are barely known."""


@dataclass(frozen=True)
class Whitened:
    """A whitening to try: dimensions and shrinkage of `retrieval.whitening`."""

    dimensions: int
    shrinkage: float

    def __str__(self) -> str:
        return f"whitening to {self.dimensions}, shrinkage {self.shrinkage:g}"


@dataclass(frozen=True, eq=False)
class Tried:
    """A way to retrieve, and AP@100 of each query with it, float64 [queries]."""

    way: Reranking | Whitened
    precisions: np.ndarray

    @property
    def mean(self) -> float:
        """mAP@100."""
        return float(self.precisions.mean())

    def gain(self, plain: "Tried") -> Comparison:
        """The difference to a plain search."""
        return compare(self.precisions, plain.precisions)

    def figures(self, plain: "Tried") -> dict[str, Any]:
        """Its parameters and figures as JSON values."""
        parameters = self.way.parts() if isinstance(self.way, Reranking) else asdict(self.way)
        return {"parameters": parameters, f"map{CONTEST_K}": self.mean} | self.gain(plain).as_json()


class Prepared:
    """A round, and what several ways to retrieve need of it."""

    def __init__(self, part: Round, device: str) -> None:
        self.index, self.queries, self.truth, self.device = part.index, part.queries, part.truth, device

    def precisions(self, way: Reranking | Whitened) -> np.ndarray:
        """AP@100 of each query, float64."""
        ranking = self._reranked(way) if isinstance(way, Reranking) else self._whitened(way)
        return average_precisions(ranking, self.truth, CONTEST_K)

    @cached_property
    def _plain(self) -> Ranking:
        return search(self.index, self.queries, CONTEST_K, device=self.device)

    @cached_property
    def _known(self) -> Neighbours:
        """As many neighbours of the index as any re-ranking needs."""
        longest = max(*(one.neighbours for one in EXPANSIONS), *(one.k1 for one in RECIPROCALS))
        return other_neighbours(self.index, longest, device=self.device)

    @cached_property
    def _directions(self) -> Directions:
        return find_directions(self.index)

    def _reranked(self, way: Reranking) -> Ranking:
        if way is NONE:
            return self._plain
        return rerank.apply(self.index, self.queries, self._plain, way, known=self._known, device=self.device)

    def _whitened(self, way: Whitened) -> Ranking:
        whitening = self._directions.whitening(way.dimensions, way.shrinkage)
        index, queries = (whitening.images(side) for side in (self.index, self.queries))
        return search(index, queries, CONTEST_K, device=self.device)


def tune_files(
    train: str | os.PathLike,
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    images: int = IMAGES,
    queries: int = QUERIES,
    seed: int = 0,
    device: str = "auto",
) -> Reranking:
    """Chooses on a training set's descriptors, and writes the choice with the figures of all that was tried.

    Args:
        train: a store or an embeddings file of the split train.
        data: the data set, for the landmarks.
        out: the re-ranking to write (JSON).
        images: as in `retrieval.leave_one_out.sample`.
        queries, seed: as in `tune`.
        device: as in `retrieval.devices.choose_device`.

    Raises:
        DataError: a file cannot be read, or the descriptors are not of this training set.
        OutputError: `out` cannot be written.
    """
    chosen_device, dataset = choose_device(device), Gldv2(Path(data))
    with output_file(out, [train, *dataset.files()], around=[dataset.root]):
        rows, table = open_rows(train), dataset.train()
        labels = dict(zip(table.ids, table.labels.tolist(), strict=True))
        found = tune(joined(labels, rows, images, seed), queries=queries, seed=seed, device=chosen_device)
        write_reranking(out, found)
    if whitening := found.tuning["whitening"]["chosen"]:
        log(
            f"whiten with: python -m retrieval.whitening --embeddings {train} --dimensions {whitening['dimensions']} "
            f"--shrinkage {whitening['shrinkage']:g} --out whitening.safetensors"
        )
    return found


def tune(images: Labelled, *, queries: int = QUERIES, seed: int = 0, device: str = "cpu") -> Reranking:
    """A re-ranking that is shown to help, with the figures of all that was tried, and of whitenings.

    Args:
        images: labelled descriptors.
        queries: how many images are left out, in rounds.
        seed: which ones.
        device: as in `retrieval.exact.search`.

    Raises:
        DataError: no landmark has two images.
    """
    plan = images.plan(queries, seed)
    landmarks, asked = len(np.unique(images.labels)), sum(map(len, plan))
    log(
        f"{len(images.labels):,} images of {landmarks:,} landmarks; {asked:,} of them are queries, in {len(plan)} rounds"
    )
    plain, *tried = _measure(images, plan, device, (NONE, *EXPANDED, *RECIPROCAL))
    further = _measure(images, plan, device, (*_combinations(tried), *_whitenings(images, plan)))
    rerankings = [*tried, *(one for one in further if isinstance(one.way, Reranking))]
    whitenings = [one for one in further if isinstance(one.way, Whitened)]
    log(f"mAP@{CONTEST_K} without re-ranking: {plain.mean:.4f}")
    best, whitening = _choose("re-ranking", rerankings, plain), _choose("whitening", whitenings, plain)
    figures = {
        "images": len(images.labels),
        "landmarks": landmarks,
        "queries": asked,
        "rounds": len(plan),
        "seed": seed,
        f"map{CONTEST_K}": plain.mean,
        "tried": [one.figures(plain) for one in rerankings],
        "whitening": {
            "chosen": asdict(whitening.way) if whitening else None,
            "tried": [one.figures(plain) for one in whitenings],
        },
    }
    chosen = best.way if best and isinstance(best.way, Reranking) else NONE
    return replace(chosen, source=images.rows.source, tuning=figures)


def _measure(
    images: Labelled, plan: Sequence[np.ndarray], device: str, ways: Sequence[Reranking | Whitened]
) -> list[Tried]:
    """Every way in every round."""
    found: list[list[np.ndarray]] = [[] for _ in ways]
    for left_out in tqdm(plan, desc=f"{len(ways)} ways to retrieve", unit="round"):
        part = Prepared(images.round(left_out), device)
        for precisions, way in zip(found, ways, strict=True):
            precisions.append(part.precisions(way))
    return [Tried(way, np.concatenate(precisions)) for way, precisions in zip(ways, found, strict=True)]


def _combinations(tried: Sequence[Tried]) -> list[Reranking]:
    """The best k-reciprocal re-ranking after the best of each kind of expansion."""
    reciprocal = _best(tried, lambda way: way.k_reciprocal is not None)
    kinds = (
        _best(tried, lambda way, kind=kind: (way.augment_database is not None, way.expand_queries is not None) == kind)
        for kind in ((False, True), (True, False), (True, True))
    )
    return [replace(kind, k_reciprocal=reciprocal.k_reciprocal) for kind in kinds]


def _best(tried: Sequence[Tried], belongs: Callable[[Reranking], bool]) -> Reranking:
    kept = [(one.mean, one.way) for one in tried if isinstance(one.way, Reranking) and belongs(one.way)]
    return max(kept, key=lambda pair: pair[0])[1]


def _whitenings(images: Labelled, plan: Sequence[np.ndarray]) -> list[Whitened]:
    """Those to fewer dimensions than the index of a round certainly varies in."""
    vary = _ENOUGH * find_directions(images.round(plan[0]).index).vary
    return [Whitened(count, shrinkage) for count in DIMENSIONS if count <= vary for shrinkage in SHRINKAGES]


def _choose(kind: str, tried: Sequence[Tried], plain: Tried) -> Tried | None:
    """The mildest of those that the best is not shown to beat, if the best is shown to help although it is the best of so many.

    A model separates the landmarks that it has learnt better than others, so what looks best on them by a hair is too much for others.
    """
    if not tried:
        return None
    best = max(tried, key=lambda one: one.mean)
    helps = [one for one in tried if (gain := one.gain(plain)).difference > 0 and gain.p * len(tried) < SIGNIFICANCE]
    log(f"best {kind} of {len(tried)}: {best.way}: {best.mean:.4f}, {best.gain(plain)}")
    if best not in helps:
        log(
            f"{kind}: none is chosen: the best of {len(tried)} needs a gain with p below {SIGNIFICANCE / len(tried):.1g}"
        )
        return None
    chosen = min((one for one in helps if not compare(best.precisions, one.precisions).shown), key=_strength)
    log(f"{kind}: chosen: {chosen.way}: {chosen.mean:.4f}, {chosen.gain(plain)}")
    return chosen


def _strength(tried: Tried) -> tuple[float, ...]:
    """How far a way is from a plain search: its parts, its neighbours, and the part of the distance itself; ties are broken by mAP."""
    if isinstance(way := tried.way, Whitened):
        return -way.shrinkage, way.dimensions, -tried.mean
    expansions = [part.neighbours for part in (way.augment_database, way.expand_queries) if part]
    reciprocal = way.k_reciprocal
    parts, neighbours = len(expansions) + bool(reciprocal), sum(expansions) + (reciprocal.k1 if reciprocal else 0)
    return parts, neighbours, -(reciprocal.distance_weight if reciprocal else 0.0), -tried.mean


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=given_path, required=True, help="store or embeddings of the split train")
    parser.add_argument("--data", type=given_path, required=True, help="the data set, for its landmarks")
    parser.add_argument("--out", type=given_path, required=True, help="the re-ranking to write (JSON)")
    parser.add_argument(
        "--images",
        type=ranged(Count),
        default=IMAGES,
        help="about how many images take part, of landmarks drawn at random; default: %(default)s",
    )
    parser.add_argument(
        "--queries",
        type=ranged(Count),
        default=QUERIES,
        help="about how many of them are queries; default: %(default)s",
    )
    parser.add_argument("--seed", type=ranged(Seed), default=0, help="of both choices")
    parser.add_argument("--device", default="auto", help="auto (the fastest here), cpu, bfloat16, cuda or cuda:N")
    given = parser.parse_args()
    tune_files(
        given.train,
        given.data,
        given.out,
        images=given.images,
        queries=given.queries,
        seed=given.seed,
        device=given.device,
    )
    print(given.out)


if __name__ == "__main__":
    run(main)
