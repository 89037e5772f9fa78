"""What a search refuses before it starts."""

import numpy as np

from retrieval.provenance import require_same_model
from retrieval.store import Rows
from zoo.errors import DataError

_MOST_ROWS = 2**31 - 1
"""A ranking has row numbers of int32."""
_LARGEST = float(np.finfo(np.float32).max)


def require_searchable(index: Rows, queries: Rows, k: int) -> None:
    """Raises `DataError` for what `retrieval.exact.search` refuses; only norms are looked at."""
    n, dimension = index.rows.shape
    if k < 1:
        raise DataError(f"expected at least 1 neighbour per query, found {k}")
    if not n or not len(queries.ids):
        raise DataError(f"expected images on both sides, found {n} in the index and {len(queries.ids)} queries.")
    if n > _MOST_ROWS:
        raise DataError(f"the index has {n:,} images; a search takes at most {_MOST_ROWS:,}. Divide it into several.")
    if queries.rows.shape[1] != dimension:
        raise DataError(
            f"the index has {dimension}-D descriptors and the queries {queries.rows.shape[1]}-D; "
            "expected the same. Embed both with the same models in the same order."
        )
    require_same_model(index.source, queries.source, "the index and the queries")
    if not np.isfinite(queries.squared_norms).all():
        unread = queries.ids[int(np.isinf(queries.squared_norms).argmax())]
        raise DataError(f"query {unread!r} could not be read, so it has no neighbours. Leave it out.")
    readable = index.squared_norms[np.isfinite(index.squared_norms)]
    if not len(readable):
        raise DataError(f"none of the {n:,} images of the index could be read, so there is nothing to find.")
    if 4 * (queries.squared_norms.max() + readable.max()) > _LARGEST:  # ‖x - y‖² is at most 2(‖x‖² + ‖y‖²)
        raise DataError("the descriptors are so large that their distances overflow float32; normalise them.")
