"""Revisited Oxford or Paris as a data set in the Google Landmarks v2 layout, so that every command embeds it."""

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.data.csv_tables import write_rows
from retrieval.data.from_folder import link_or_copy
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.revisited.ground_truth import Query, read_ground_truth
from zoo.errors import DataError
from zoo.files import new_folder, output_folder
from zoo.inputs import require_folder

SUFFIXES = (".jpg", ".jpeg", ".png")


def image_id(name: str) -> str:
    """The id of an image or a query of this name: 16 hexadecimal digits, as the layout wants, from the name's sha256."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def make_data_set(
    gnd: str | os.PathLike, images: str | os.PathLike, out: str | os.PathLike, *, overwrite: bool = False
) -> tuple[int, int]:
    """Makes a data set whose index are the images, and whose test images are the queries, cut out by their boxes.

    Index images are hard links if the file system allows it, else copies. Queries are stored without loss, as PNG; their files end in
    `.jpg` because the layout's do, and readers look at the content.

    Args:
        gnd: the published ground truth, or our JSON of it.
        images: folder with the published photographs, at any depth.
        out: the data set to make.
        overwrite: replace `out` if it holds something.

    Returns:
        How many index images and queries it has.

    Raises:
        DataError: the ground truth or an image cannot be read, or a photograph is missing.
        OutputError: `out` holds something or cannot be written.
    """
    with output_folder(out, [gnd, images], overwrite=overwrite):
        truth = read_ground_truth(gnd)
        queries = {query.name: query for query in truth.queries}
        files = _find(Path(images), [*truth.images, *queries])
        with new_folder(out, overwrite=overwrite) as folder:
            dataset = Gldv2(folder)
            for name in truth.images:
                link_or_copy(files[name], dataset.image_path("index", image_id(name)), copy=False)
            for name, query in queries.items():
                path = dataset.image_path("test", image_id(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(cut_out(read_image(files[name]), query)).save(path, format="PNG")
            for split, names in (("index", truth.images), ("test", queries)):
                write_rows(dataset.table_path(split), [("id", "name"), *((image_id(name), name) for name in names)])
        return len(truth.images), len(queries)


def cut_out(image: np.ndarray, query: Query) -> np.ndarray:
    """The query's part of its image, uint8 [height, width, 3]; the box is rounded to whole pixels, as Pillow's `crop` does.

    Raises:
        DataError: the box lies outside of the image.
    """
    left, top, right, bottom = (max(0, round(side)) for side in query.box)
    part = image[top:bottom, left:right]
    if not part.size:
        raise DataError(
            f"query {query.name!r}: its box {list(query.box)} lies outside of its image of {image.shape[1]} × {image.shape[0]} pixels; "
            "expected the images that belong to the ground truth."
        )
    return part


def _find(folder: Path, names: list[str]) -> dict[str, Path]:
    """{name: file} by the files' names without suffix."""
    require_folder(folder, "the folder of the photographs", DataError)
    found = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES}
    if missing := [name for name in names if name not in found]:
        raise DataError(
            f"{folder} lacks {len(missing):,} of {len(names):,} photographs, first {missing[0]}.jpg. Unpack all of the data set's archives "
            "into it."
        )
    return found
