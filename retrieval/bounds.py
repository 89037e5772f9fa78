"""How far off a product in float32 can be, and scores that are never too small.

The nearer an image x is to a query q, the larger is its score s = q·x - ‖x‖²/2, because ‖x - q‖² = ‖q‖² - 2s. In float32, a sum of n
products is off by at most γ Σ|aᵢbᵢ|, whatever the order of its additions, with γ = nu / (1 - nu) and u = 2⁻²⁴ (Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd edition, section 3.1). Two more columns add this bound to the score within the same product:

    [q, 1, γ‖q‖] · [x, -(1 - γ)‖x‖²/2, ‖x‖]

is, as float32 computes it, at least s. So every image that is left out because of such a score is farther away than the score says,
strictly. The bound has to be that of an image's own norm: with the largest one, a single long descriptor would make all others uncertain.
"""

import numpy as np

EXTRA = 2
"""Columns that are appended to descriptors."""
_UNIT = 2.0**-24
_UNIT64 = 2.0**-53
_SMALLEST = 2.0**-126
"""What an underflow of a product may lose, even where denormal numbers are taken for 0."""
_MARGIN = 1.01
_TILE = 32
"""Rows whose differences stay in a processor's cache."""


def query_columns(norms: np.ndarray, dimensions: int) -> np.ndarray:
    """The columns of queries, float32 [q, 2].

    Args:
        norms: ‖q‖, float64 [q].
        dimensions: D.
    """
    columns = np.empty((len(norms), EXTRA), np.float32)
    columns[:, 0] = 1
    columns[:, 1] = _above(_gamma(dimensions) * norms)
    return columns


def row_columns(squared_norms: np.ndarray, dimensions: int) -> np.ndarray:
    """The columns of index rows, float32 [n, 2].

    Args:
        squared_norms: ‖x‖², float64 [n]; where it is infinite, the score is -inf.
        dimensions: D.
    """
    columns = np.empty((len(squared_norms), EXTRA), np.float32)
    readable = np.isfinite(squared_norms)
    columns[:, 0] = -np.nextafter((squared_norms * ((1 - _gamma(dimensions)) / 2)).astype(np.float32), np.float32(0))
    columns[:, 1] = _above(np.sqrt(np.where(readable, squared_norms, 0)))
    columns[~readable, 0] = -np.inf
    return columns


def least_score(distances: np.ndarray, query_norms: np.ndarray, dimensions: int) -> np.ndarray:
    """The score in float32 that an image at a distance, or nearer, has at the least: float64 [q].

    Args:
        distances: as `distances_to` computes them, float64 [q].
        query_norms: ‖q‖, float64 [q].
        dimensions: D.
    """
    squares, own = distances**2, query_norms**2
    rounding = 8 * (dimensions + 4) * _UNIT64 * (squares + own)
    return (own - squares - rounding) / 2 - (dimensions + 4) * _SMALLEST


def squared_norm_error(squared_norms: np.ndarray, dimensions: int) -> np.ndarray:
    """By how much a squared norm that float32 adds up may differ from one that float64 did, float64 [n]."""
    return 2 * _gamma(dimensions) * squared_norms + (dimensions + 4) * _SMALLEST


def distances_to(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """‖x - q‖ in float64; the same two descriptors give the same number to the bit, whatever else is in `rows`.

    Args:
        query: float64 [D].
        rows: float16 or float32 [m, D].
    """
    squares = np.empty(len(rows))
    for start in range(0, len(rows), _TILE):
        differences = rows[start : start + _TILE].astype(np.float64)
        differences -= query
        np.einsum("md,md->m", differences, differences, out=squares[start : start + _TILE])
    return np.sqrt(squares)


def error_share(products: int) -> float:
    """γ of a sum of products in float32, enlarged for what further columns add to it."""
    terms = (products + EXTRA) * _UNIT
    return _MARGIN * terms / (1 - terms)


def _gamma(dimensions: int) -> float:
    return error_share(dimensions + EXTRA)


def _above(values: np.ndarray) -> np.ndarray:
    """float32 numbers that are not smaller than float64 ones."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
