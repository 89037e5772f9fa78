"""Descriptors in two dimensions, by t-SNE: images that are near each other there are near each other in the descriptor space."""

from collections.abc import Sequence

import numpy as np

from retrieval.viewer.results import Results
from retrieval.viewer.similarities import Sides
from zoo.errors import DataError

POINTS = 20_000
"""At most: all scored queries, then hits and missed images, those that matter most first. 8,000 take half a minute."""
FEWEST = 8
"""Points that make a map."""
DIMENSIONS = 50
"""Kept before t-SNE by principal components, as its authors recommend."""
ABSENT = np.uint16(65535)
"""The coordinate of an image that is not on the map."""


def descriptor_map(results: Results, sides: Sides, *, seed: int = 0) -> np.ndarray:
    """Positions uint16 [Q + N, 2] of the queries and then of the index images, from 0 to 65,534; `ABSENT` if not on the map.

    The same descriptors, seed and library versions give the same map.

    Raises:
        ModuleNotFoundError: openTSNE is not installed (extra `map`).
        DataError: fewer than `FEWEST` images have descriptors.
    """
    descriptors, places = _descriptors(results, sides)
    if len(places) < FEWEST:
        raise DataError(f"expected descriptors of at least {FEWEST} images for a map, found {len(places)}.")
    points = _t_sne(_principal(descriptors), seed)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = max(float((high - low).max()), 1e-12)  # one scale for both axes keeps distances comparable
    positions = np.full((len(results.query_ids) + len(results.image_ids), 2), ABSENT, np.uint16)
    positions[places] = np.round((points - (low + high) / 2) / scale * 65534 + 32767).astype(np.uint16)
    return positions


def _descriptors(results: Results, sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """Unit-norm descriptors float32 [n, D], and their places among the queries and index images."""
    queries = _rows(sides.queries.ids, results.query_ids)
    images = _rows(sides.index.ids, results.image_ids[: max(0, POINTS - len(queries))])
    chosen = [(sides.queries, row, place) for place, row in enumerate(queries) if row is not None]
    chosen += [(sides.index, row, place + len(queries)) for place, row in enumerate(images) if row is not None]
    chosen = [(side, row, place) for side, row, place in chosen[:POINTS] if np.isfinite(side.squared_norms[row])]
    rows = np.stack([np.asarray(side.rows[row], np.float32) for side, row, _ in chosen])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.array([place for *_, place in chosen])


def _rows(ids: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    row = {image: place for place, image in enumerate(ids)}
    return [row.get(image) for image in wanted]


def _principal(rows: np.ndarray) -> np.ndarray:
    """Coordinates along the first `DIMENSIONS` principal components, float64 [n, ≤ DIMENSIONS]."""
    centred = rows - rows.mean(axis=0)
    if centred.shape[1] <= DIMENSIONS:
        return centred.astype(np.float64)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return centred @ axes[:, : -DIMENSIONS - 1 : -1]


def _t_sne(rows: np.ndarray, seed: int) -> np.ndarray:
    from openTSNE import TSNE  # an extra: only the map needs it

    perplexity = min(30, (len(rows) - 1) // 3)  # t-SNE needs three times as many neighbours
    # One thread: the map does not depend on the number of cores, and threads that wait for each other by spinning take ten times
    # as long where other processes have the cores.
    made = TSNE(perplexity=perplexity, initialization="pca", n_jobs=1, random_state=seed).fit(rows)
    return np.asarray(made, np.float64)
