"""Small rankings with images and a ground truth, for the tests of the report."""

import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from retrieval.data.landmarks import IndexLandmarks
from retrieval.embeddings import Embeddings
from retrieval.ranking import Ranking
from retrieval.solution import RetrievalSolution
from retrieval.viewer.figures import Run
from retrieval.viewer.report import Report
from retrieval.viewer.results import Results, results
from retrieval.viewer.similarities import Sides
from retrieval.viewer.thumbnails import Thumbnails, thumbnails

FIGURES = {
    "map100": {"untrained": 0.11, "members": {"resnet18": 0.5, "resnest14": 0.7}, "ensemble": 0.8123},
    "parity": [
        {"arrow": "torch → ONNX", "model": "resnet18", "max_abs": 2e-7, "cosine": 1 - 1e-12, "tolerance": 1e-5},
        {"arrow": "ONNX → SavedModel", "model": "resnet18", "max_abs": 3e-5, "cosine": 0.999, "tolerance": 1e-5},
        {"arrow": "Paddle → ONNX", "model": "resnest14", "max_abs": 0.0, "cosine": 1.0, "tolerance": 1e-5},
    ],
    "seconds": {"train": 75.0, "export": 9.5},
    "peak_rss_mib": 512.0,
    "sizes": {"checkpoint resnet18": 2 << 20, "SavedModel resnet18": 5 << 20, "submission.zip": 3 << 20},
    "data": {"train": 2400, "classes": 80, "index": 1200, "queries": 120},
}


class Drawn:
    """An image source whose images are drawn from their ids; those named "broken…" cannot be read."""

    def __init__(self, size: tuple[int, int] = (90, 60)) -> None:
        self._size = size

    def read(self, image_id: str) -> bytes:
        if image_id.startswith("broken"):
            return b"no image"
        colour = tuple(np.random.default_rng(list(image_id.encode())).integers(40, 220, 3).tolist())
        buffer = io.BytesIO()
        Image.new("RGB", self._size, colour).save(buffer, "JPEG")
        return buffer.getvalue()

    def place(self, image_id: str) -> str:
        return f"drawn/{image_id}"

    def size(self, image_id: str) -> int | None:
        return len(self.read(image_id))

    def changed(self, image_id: str) -> int | None:
        return 0


def ranked(queries: int = 30, landmarks: int = 6, per_landmark: int = 8, others: int = 20, seed: int = 0) -> Results:
    """The results of a ranking of drawn images, with the descriptors of two noisy clusters per landmark."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(landmarks, 16))
    index_ids = [f"i{number}" for number in range(landmarks * per_landmark + others)]
    of_index = [number // per_landmark if number < landmarks * per_landmark else -1 for number in range(len(index_ids))]
    query_ids = [f"q{number:04}" for number in range(queries)]
    of_query = [number % landmarks for number in range(queries)]
    index = embeddings(index_ids, [_near(rng, centres, landmark) for landmark in of_index])
    asked = embeddings(query_ids, [_near(rng, centres, landmark) for landmark in of_query])
    truth = {
        query: tuple(image for image, shown in zip(index_ids, of_index, strict=True) if shown == landmark)
        for query, landmark in zip(query_ids, of_query, strict=True)
    }
    solution = RetrievalSolution({}, truth, ["ignored"])
    named = {image: landmark for image, landmark in zip(index_ids, of_index, strict=True) if landmark >= 0}
    table = IndexLandmarks(named, {landmark: f"Tower {landmark}" for landmark in range(landmarks)})
    return results(nearest(index, asked, 14), solution, table, Sides(index, asked))


def nearest(index: Embeddings, queries: Embeddings, k: int) -> Ranking:
    """The k nearest by plain arithmetic."""
    distances = np.linalg.norm(index.rows[None] - queries.rows[:, None], axis=2)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k].astype(np.int32)
    return Ranking(queries.ids, index.ids, rows, np.take_along_axis(distances, rows, axis=1).astype(np.float32))


def embeddings(ids: Sequence[str], rows: Sequence[np.ndarray]) -> Embeddings:
    """Unit-norm descriptors."""
    stacked = np.stack(rows)
    return Embeddings(tuple(ids), (stacked / np.linalg.norm(stacked, axis=1, keepdims=True)).astype(np.float32), {})


def drawn_report(found: Results, **changes) -> Report:
    """A report with drawn pictures."""
    parts = {"title": "Demo", "results": found, "pictures": _pictures(tuple(found.query_ids), tuple(found.image_ids))}
    return Report(**parts | changes)


@functools.cache
def _pictures(query_ids: tuple[str, ...], image_ids: tuple[str, ...]) -> Thumbnails:
    wanted = [(Drawn((60, 90)), query) for query in query_ids] + [(Drawn(), image) for image in image_ids]
    return thumbnails(wanted, progress=False)


def points(stages: int = 3, steps: int = 8) -> list[dict]:
    """Logged training steps."""
    return [
        {
            "step": step,
            "stage": step * stages // steps,
            "resolution": 64 + 32 * (step * stages // steps),
            "margin": 0.1 * (step * stages // steps),
            "learning_rate": 0.1 / (1 + step),
            "loss": 5.0 - 0.3 * step,
            "accuracy": step / steps,
        }
        for step in range(steps)
    ]


def run(**changes) -> Run:
    """What a pipeline measured."""
    parts = {"figures": FIGURES, "curves": {"resnet18": points()}, "commands": ("make demo", "make test")}
    return Run(**parts | changes)


def _near(rng: np.random.Generator, centres: np.ndarray, landmark: int) -> np.ndarray:
    noise = rng.normal(size=centres.shape[1])
    return noise if landmark < 0 else centres[landmark] + 0.8 * noise
