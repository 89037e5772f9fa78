"""From the pixels of a photograph to the nearest index images, with their landmarks."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.data.landmarks import IndexLandmarks
from retrieval.describer import Describer, describe
from retrieval.embeddings import Embeddings
from retrieval.exact import search
from retrieval.provenance import require_same_model
from retrieval.store import Rows
from zoo.errors import DataError

HITS, MOST_HITS = 24, 100
"""Index images that are shown for a photograph, and how many may be asked for."""
_QUERY = "photograph"


@dataclass(frozen=True)
class Hit:
    """An index image that was found.

    Attributes:
        rank: from 1.
        row: of the index.
        id: of the image.
        landmark_id, landmark: the landmark that it shows, and its name; None if the data set's tables do not say.
        similarity: cosine of the two descriptors, from -1 to 1.
        distance: Euclidean distance of the two descriptors, which decides the order.
    """

    rank: int
    row: int
    id: str
    landmark_id: int | None
    landmark: str | None
    similarity: float
    distance: float


@dataclass(frozen=True)
class Answer:
    """What was found for a photograph of `width` × `height` pixels, nearest first."""

    width: int
    height: int
    hits: list[Hit]

    @property
    def landmarks(self) -> list[tuple[str, int]]:
        """The landmarks among the hits and how many show each, the most frequent first, then the nearest."""
        return Counter(hit.landmark for hit in self.hits if hit.landmark is not None).most_common()


class Finder:
    """Finds the index images that are nearest to a photograph. May be called from several threads; the model runs in one at a time.

    Args:
        describer: the model that made the index.
        index: the descriptors of the index images.
        landmarks: what the index images show.

    Raises:
        DataError: the model is another one than the index was made with, or its descriptors have another size.
    """

    def __init__(self, describer: Describer, index: Rows, landmarks: IndexLandmarks) -> None:
        advice = "Serve the model that made the store, or embed the index again."
        require_same_model(index.source, describer.source, "the store and the model", advice)
        self.index = index
        self.source = describer.source
        self._describer, self._landmarks = describer, landmarks
        self._one_at_a_time = threading.Lock()
        # The first call of a model takes seconds, and shows whether it fits.
        dimensions, expected = len(self._describe(np.full((64, 64, 3), 128, np.uint8))), index.rows.shape[1]
        if dimensions != expected:
            raise DataError(
                f"the store has {expected}-D descriptors and the model makes {dimensions}-D ones; expected the same. {advice}"
            )

    def __call__(self, pixels: np.ndarray, most: int = HITS) -> Answer:
        """The nearest index images.

        Args:
            pixels: the photograph, uint8 [H, W, 3], RGB.
            most: index images to find; fewer are returned if the index is smaller. Images that could not be read are not found.

        Raises:
            DataError: the descriptor is not finite or all zeros.
        """
        descriptor = self._describe(pixels)
        query = Embeddings((_QUERY,), descriptor[None], self.source)
        ranking = search(self.index, query, most, progress=False)
        found = np.isfinite(ranking.distances[0])
        rows, distances = ranking.rows[0][found], ranking.distances[0][found]
        height, width = pixels.shape[:2]
        similarities = self._similarities(rows, descriptor)
        numbers = enumerate(zip(rows.tolist(), similarities.tolist(), distances.tolist(), strict=True), start=1)
        return Answer(width, height, [self._hit(rank, *values) for rank, values in numbers])

    def _describe(self, pixels: np.ndarray) -> np.ndarray:
        with self._one_at_a_time:
            return describe(self._describer, [pixels], workers=1)[0]

    def _similarities(self, rows: Sequence[int] | np.ndarray, descriptor: np.ndarray) -> np.ndarray:
        """Cosines, float64 [rows]: stored rows are rounded, so they have no unit norm."""
        chosen = self.index.rows[rows].astype(np.float64)
        norms = np.sqrt(self.index.squared_norms[rows]) * np.linalg.norm(descriptor.astype(np.float64))
        return np.clip(chosen @ descriptor / norms, -1, 1)

    def _hit(self, rank: int, row: int, similarity: float, distance: float) -> Hit:
        image_id = self.index.ids[row]
        landmark = self._landmarks.of_image.get(image_id)
        name = None if landmark is None else self._landmarks.name(landmark)
        return Hit(rank, row, image_id, landmark, name, similarity, distance)
