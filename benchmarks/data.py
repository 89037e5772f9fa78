"""Images per second and core that training reads and augments, against torchvision's usual loader on the same files.

Example:
    python -m benchmarks.data --photographs PHOTOS

PHOTOS is a folder with photographs, at any depth. Files of the measured sizes are made of them: one photograph at 256 px, or a
collage of photographs about 400 px wide, as JPEG of quality 90 with chroma subsampling. Each loader does the whole of its work: it opens
the file, decodes it, crops 8 to 100 % of the area at random, resizes, mirrors, and stacks batches. Measured is processor time with one
thread, in turn, the best of several passes.

- ours: `training.batches.TrainingImages`, uint8 batches.
- ours, full size: the same, with all images decoded at full size.
- ours, shrunk: the same on a copy of the files with a shorter side of 256 px (`landmark-zoo data shrink`).
- torchvision: PIL, RandomResizedCrop, RandomHorizontalFlip, and ToTensor, whose batches are float32; or PILToTensor, uint8.

The last line of stdout is the path of the JSON file with all figures.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import training.images
from benchmarks.results_files import write_results
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.data.shrink import shrink
from training.batches import TrainingImages
from training.recipes import Augmentation
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.disk import temporary_folder
from zoo.errors import DataError
from zoo.strict import Count

TILE = 400
"""Width of a photograph in a collage, so that a file has about as many bytes per pixel as GLDv2's."""
IMAGES, BATCH = 128, 32
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PEERS = ("ours", "ours, full size", "ours, shrunk", "torchvision, ToTensor", "torchvision, PILToTensor")


@dataclass(frozen=True)
class Case:
    """Files of one size, and the side of the batches; `target` is the least ratio of ours to torchvision with ToTensor."""

    width: int
    height: int
    size: int
    target: float | None

    def __str__(self) -> str:
        return f"{self.width} × {self.height} → {self.size}"


CASES = (
    Case(256, 256, 64, 1.9),
    Case(256, 256, 224, None),
    Case(800, 600, 224, 1.25),
    Case(800, 600, 448, None),
    Case(1600, 1200, 224, 3),
)


def make_set(photographs: list[Path], root: Path, width: int, height: int, count: int) -> None:
    """A data set of `count` training images of a size, made of photographs in an order that a seed decides."""
    rng, dataset = np.random.default_rng(0), Gldv2(root)
    across, down = max(1, round(width / TILE)), max(1, round(height / TILE))
    ids = [f"{number:03x}{'0' * 13}" for number in range(count)]
    for image_id in ids:
        collage = Image.new("RGB", (width, height))
        for number in range(across * down):
            tile = Image.fromarray(read_image(photographs[int(rng.integers(len(photographs)))]))
            left, top = number % across * width // across, number // across * height // down
            collage.paste(tile.resize((-(-width // across), -(-height // down)), Image.Resampling.BICUBIC), (left, top))
        path = dataset.image_path("train", image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        collage.save(path, quality=90, subsampling="4:2:0")
    rows = "".join(f"{image_id},,{number % 2}\n" for number, image_id in enumerate(ids))
    (root / "train.csv").write_text("id,url,landmark_id\n" + rows, encoding="utf-8")


def ours(root: Path, size: int) -> Callable[[], None]:
    """One pass over a data set with the project's loader."""
    dataset = Gldv2(root)
    images = TrainingImages(dataset, dataset.train(), batch_size=BATCH, seed=0, augmentation=Augmentation(), workers=1)

    def once() -> None:
        for _ in images.batches(0, size):
            pass

    return once


def torchvisions(root: Path, size: int, to_tensor: str) -> Callable[[], None]:
    """One pass over a data set with torchvision's transforms."""
    import torch
    from torchvision import transforms

    torch.set_num_threads(1)
    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(0.08, 1.0)),
            transforms.RandomHorizontalFlip(),
            getattr(transforms, to_tensor)(),
        ]
    )
    dataset = Gldv2(root)
    paths = [dataset.image_path("train", image_id) for image_id in dataset.train().ids]

    def load(path: Path) -> Any:
        with Image.open(path) as image:
            return change(image.convert("RGB"))

    def once() -> None:
        torch.manual_seed(0)
        for start in range(0, len(paths), BATCH):
            torch.stack([load(path) for path in paths[start : start + BATCH]])

    return once


@contextmanager
def _full_size() -> Iterator[None]:
    divisors, training.images.DIVISORS = training.images.DIVISORS, ()
    try:
        yield
    finally:
        training.images.DIVISORS = divisors


def measure(case: Case, root: Path, small: Path, passes: int, count: int) -> dict[str, Any]:
    """Images per second of each loader."""
    full = ours(root, case.size)

    def at_full_size() -> None:
        with _full_size():
            full()

    loaders = dict(
        zip(
            PEERS,
            (
                ours(root, case.size),
                at_full_size,
                ours(small, case.size),
                torchvisions(root, case.size, "ToTensor"),
                torchvisions(root, case.size, "PILToTensor"),
            ),
            strict=True,
        )
    )
    best = dict.fromkeys(PEERS, float("inf"))
    for _ in range(passes):
        for name, once in loaders.items():
            began = time.process_time()
            once()
            best[name] = min(best[name], time.process_time() - began)
    sizes = [path.stat().st_size for path in root.rglob("*.jpg")]
    return {
        "case": str(case),
        "kb": round(sum(sizes) / len(sizes) / 1000),
        "images_per_second": {name: round(count / seconds) for name, seconds in best.items()},
        "target": case.target,
    }


def measure_all(photographs: Path, passes: int, count: int) -> list[dict[str, Any]]:
    """One row per case.

    Raises:
        DataError: the folder holds no photographs.
    """
    files = sorted(path for path in photographs.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{photographs} holds no files of the kinds {', '.join(SUFFIXES)}; expected photographs.")
    rows = []
    with temporary_folder() as folder:
        for case in CASES:
            root, small = (folder / f"{case.width}{suffix}" for suffix in ("", "-small"))
            if not root.exists():
                root.mkdir()
                make_set(files, root, case.width, case.height, count)
                shrink(root, small)
            rows.append(measure(case, root, small, passes, count))
            log(f"{case}: {rows[-1]['images_per_second']}")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [f"| files → batches | kB | {' | '.join(PEERS)} | ratio to ToTensor | target |"]
    lines.append("| --- |" + " ---: |" * (len(PEERS) + 3))
    for row in rows:
        rates = row["images_per_second"]
        ratio = rates["ours"] / rates["torchvision, ToTensor"]
        target = (
            "–" if row["target"] is None else f"{row['target']:g} {'met' if ratio >= row['target'] else '**missed**'}"
        )
        cells = " | ".join(f"{rates[name]:,}" for name in PEERS)
        lines.append(f"| {row['case']} | {row['kb']} | {cells} | {ratio:.2f} | {target} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photographs", type=given_path, required=True, metavar="DIR", help="photographs, at any depth"
    )
    parser.add_argument(
        "--passes", type=ranged(Count), default=7, help="of which the best counts; default: %(default)s"
    )
    parser.add_argument("--out", type=given_path, help="JSON to write (default: benchmarks/results/data.json)")
    given = parser.parse_args()
    rows = measure_all(given.photographs, given.passes, IMAGES)
    print(table(rows))
    print(write_results("data", rows, given.out))


if __name__ == "__main__":
    run(main)
