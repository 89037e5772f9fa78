"""Descriptors that borrow from their neighbours: alpha query expansion and database augmentation.

Both replace a descriptor by itself plus its nearest index images, each weighted by its cosine to the power of alpha:

- of the queries, it is alpha query expansion: F. Radenović, G. Tolias and O. Chum, "Fine-tuning CNN image retrieval with no human
  annotation" (TPAMI 2018), section 3.4;
- of the index, it is database augmentation: R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object
  retrieval" (CVPR 2012), section 5, and A. Gordo et al., "End-to-end learning of deep visual representations for image retrieval"
  (IJCV 2017), section 5.3.

The result keeps the norm of the descriptor that it replaces, so descriptors of unit norm stay such. If the norms differ, the weights
are still cosines, and a longer neighbour counts more.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from retrieval.embeddings import squared_norms
from retrieval.neighbours import Neighbours, cosines
from retrieval.store import Rows, Selection
from zoo.disk import require_room

_BLOCK = 4096


@dataclass(frozen=True)
class Expansion:
    """How a descriptor is replaced.

    Attributes:
        neighbours: how many are added, fewer than a landmark has images: an image of another landmark does harm.
        alpha: power of their cosines; 0 counts all alike, a large one only those that are nearly equal.
    """

    neighbours: Annotated[int, Meta(ge=1, le=1000)]
    alpha: Annotated[float, Meta(ge=0, le=100)] = 3.0


def expand(path: Path, images: Rows, index: Rows, found: Neighbours, expansion: Expansion) -> Selection:
    """Descriptors with their nearest index images added, as a mapped file that is written block by block.

    Args:
        path: the .npy file to write; it has the type and size of the rows of `images`.
        images: n images, the queries or the index itself; one that could not be read stays so.
        index: where the neighbours are; one that could not be read adds nothing.
        found: at least `expansion.neighbours` neighbours of each image, not including the image itself.
        expansion: how many of them are added, and how much they count.

    Raises:
        OutputError: the disk has no room for the file.
    """
    size = images.rows.nbytes
    require_room(path, size, largest=size)
    new = np.lib.format.open_memmap(path, "w+", images.rows.dtype, images.rows.shape)
    with open(path, "r+b") as file:  # a mapped file that a full disk has no room for would end the process
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    norms = np.full(len(images.ids), np.inf)
    found = found.nearest(expansion.neighbours)
    for start in range(0, len(norms), _BLOCK):
        block = slice(start, start + _BLOCK)
        own, rows = images.squared_norms[block], found.rows[block]
        weights = np.maximum(cosines(found.distances[block], own, index.squared_norms[rows]), 0) ** expansion.alpha
        weights[rows < 0] = 0
        total = images.rows[block].astype(np.float32)
        for place, weight in zip(rows.T, weights.T.astype(np.float32), strict=True):
            total += weight[:, None] * index.rows[place]
        readable = np.isfinite(own)
        # No sum is shorter than its own descriptor: cosines are not negative.
        total[readable] *= np.sqrt(own[readable] / squared_norms(total[readable]))[:, None]
        new[block] = total
        norms[block][readable] = squared_norms(new[block][readable])
    return Selection(images.ids, new, norms, images.source)
