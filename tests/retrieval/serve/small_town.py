"""A small data set of coloured squares, a model that compares colours, and the search page of both."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.data.landmarks import index_landmarks
from retrieval.describer import Batch, Resized, describe
from retrieval.embeddings import Embeddings
from retrieval.serve.app import create_app
from retrieval.serve.finder import Finder
from retrieval.serve.pictures import example_pictures, index_pictures
from retrieval.serve.server import listen, make_server, url

HOSTILE = "</script><img src=x onerror=\"alert(1)\"> & 'Brücke' 🏛"
NAMES = ("Red tower", "Green gate", HOSTILE, "Grey hall")
COLOURS = ((200, 40, 30), (30, 170, 60), (40, 60, 210), (150, 150, 150))
IMAGES_EACH = 4


class Colours:
    """Describes an image by its colours on a grid of 4 × 4, float32 [N, 48]; notices if two threads call it at once."""

    def __init__(self) -> None:
        self.inputs = (Resized(4, "antialias"),)
        self.source: dict[str, Any] = {"model": "colours", "size": 4, "checkpoint": "c" * 64}
        self._busy = threading.Lock()
        self.seconds = 0.0

    def __call__(self, batch: Batch) -> np.ndarray:
        assert self._busy.acquire(blocking=False), "the model is called by two threads at once"
        try:
            time.sleep(self.seconds)
            rows = batch[self.inputs[0]].reshape(-1, 48) / 255 + 0.01
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        finally:
            self._busy.release()


def image_id(split: str, number: int) -> str:
    return f"{'abc'[['train', 'index', 'test'].index(split)]}{number:015x}"


def picture(landmark: int, seed: int, side: int = 120) -> np.ndarray:
    """uint8 [side, side * 4 / 3, 3]: the landmark's colour under a light sky, with some noise."""
    random = np.random.default_rng([landmark, seed])
    pixels = np.full((side, side * 4 // 3, 3), 225.0)
    pixels[side // 3 :, side // 4 :] = COLOURS[landmark]
    return np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)


def as_file(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write_town(root: Path) -> None:
    """16 index images of four landmarks and four queries, with all tables."""
    (root / "train_label_to_category.csv").write_text(
        "landmark_id,category\n"
        + "".join(f'{n},"{name.replace(chr(34), chr(34) * 2)}"\n' for n, name in enumerate(NAMES)),
        encoding="utf-8",
    )
    count = len(NAMES) * IMAGES_EACH
    landmarks = [number // IMAGES_EACH for number in range(count)]
    for split, shown in (("index", landmarks), ("test", list(range(len(NAMES))))):
        for number, landmark in enumerate(shown):
            path = root.joinpath(split, *image_id(split, number)[:3], f"{image_id(split, number)}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_file(picture(landmark, 100 * (split == "test") + number), "JPEG"))
        ids = [image_id(split, number) for number in range(len(shown))]
        (root / f"{split}.csv").write_text("\n".join(["id", *ids]) + "\n", encoding="utf-8")
    labels = [f"{image_id('index', number)},{landmark}" for number, landmark in enumerate(landmarks)]
    (root / "index_label.csv").write_text("\n".join(["id,landmark_id", *labels]) + "\n", encoding="utf-8")
    truth = []
    for query in range(len(NAMES)):
        relevant = [image_id("index", number) for number, landmark in enumerate(landmarks) if landmark == query]
        usage = "Ignored" if query == 3 else "Public"
        truth.append(f"{image_id('test', query)},{'None' if query == 3 else ' '.join(relevant)},{usage}")
    (root / "retrieval_solution_v2.1.csv").write_text("\n".join(["id,images,Usage", *truth]) + "\n", encoding="utf-8")


def town_index(root: Path) -> Embeddings:
    """The descriptors of the index images by `Colours`."""
    dataset, model = Gldv2(root), Colours()
    ids = dataset.named_ids("index")
    rows = describe(model, [read_image(dataset.image_path("index", name)) for name in ids])
    return Embeddings(ids, rows, model.source | {"data": {"split": "index"}})


def town_finder(root: Path, index: Embeddings) -> Finder:
    return Finder(Colours(), index, index_landmarks(Gldv2(root)))


def town_app(root: Path, index: Embeddings) -> ASGIApp:
    """The search page of the town."""
    dataset = Gldv2(root)
    pictures = index_pictures(dataset, "index", index.ids)
    return create_app(town_finder(root, index), pictures, example_pictures(dataset))


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address of a live server on a free port of this machine."""
    server, listener = make_server(app), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield url(listener, "127.0.0.1")
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()
