"""Which landmark an index image shows, and what the landmarks are called, as far as a data set's tables say.

GLDv2 publishes `index_image_to_landmark.csv` (id, landmark_id) and `index_label_to_category.csv` (landmark_id, category), whose
categories are addresses of pages of Wikimedia Commons; `retrieval.data.from_folder` writes `index_label.csv` and
`train_label_to_category.csv`, because its index and its training images share their landmark ids. All are optional.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from retrieval.data.csv_tables import bad_row, read_rows
from retrieval.data.gldv2 import LANDMARK_TABLES, Gldv2
from zoo.limits import LANDMARK_DIGITS

_PAGE = "Category:"


@dataclass(frozen=True)
class IndexLandmarks:
    """The landmarks of index images.

    Attributes:
        of_image: index image id → landmark id; images that the tables do not name are missing.
        names: landmark id → its name; empty if no table has names.
    """

    of_image: dict[str, int]
    names: dict[int, str]

    def name(self, landmark: int) -> str:
        """The name of a landmark, or "landmark <id>" if the tables have none."""
        return self.names.get(landmark) or f"landmark {landmark}"


def index_landmarks(dataset: Gldv2, ids: Collection[str] | None = None) -> IndexLandmarks:
    """The landmarks of a data set's index images; nothing if it has no such table.

    Args:
        dataset: the data set.
        ids: read these images only; the index of GLDv2 has 761,757.

    Raises:
        DataError: a table does not parse.
    """
    for images, categories in LANDMARK_TABLES:
        if (path := dataset.root / images).exists():
            of_image = _landmarks(path, None if ids is None else frozenset(ids))
            return IndexLandmarks(of_image, _names(dataset.root / categories, frozenset(of_image.values())))
    return IndexLandmarks({}, {})


def readable_name(category: str) -> str:
    """A category as a name: of the address of a page of Wikimedia Commons, the page's title."""
    _, found, title = category.rpartition(_PAGE)
    return unquote(title).replace("_", " ").strip() if found else category.strip()


def _landmarks(path: Path, wanted: frozenset[str] | None) -> dict[str, int]:
    return {
        image_id: _number(path, line, landmark)
        for line, (image_id, landmark) in read_rows(path, ("id", "landmark_id"))
        if wanted is None or image_id in wanted
    }


def _names(path: Path, wanted: frozenset[int]) -> dict[int, str]:
    if not path.exists():
        return {}
    rows = read_rows(path, ("landmark_id", "category"))
    named = ((_number(path, line, landmark), category) for line, (landmark, category) in rows)
    return {landmark: readable_name(category) for landmark, category in named if landmark in wanted}


def _number(path: Path, line: int, landmark: str) -> int:
    if not (landmark.isascii() and landmark.isdecimal() and len(landmark) <= LANDMARK_DIGITS):
        raise bad_row(path, line, f"an integer landmark_id of at most {LANDMARK_DIGITS} digits", landmark)
    return int(landmark)
