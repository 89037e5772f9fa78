"""The one table of how far the two ends of each arrow may be apart, and the measure that it is about.

Every arrow is measured on unit-norm descriptors, where one entry of 512 is about 0.044: an absolute error of 1e-3 would
forgive 2 %. So the cosine is checked too, NaN never passes, and there is no relative tolerance.
"""

from dataclasses import dataclass

import numpy as np

from zoo.constants import NORM_EPSILON


@dataclass(frozen=True)
class Tolerance:
    """The largest absolute difference of any entry and the smallest cosine of any descriptor, with the reason."""

    max_abs: float
    cosine: float
    reason: str


@dataclass(frozen=True)
class Difference:
    """What was measured between two sets of descriptors."""

    max_abs: float
    cosine: float

    def within(self, tolerance: Tolerance) -> bool:
        """Whether both figures are inside; NaN is not."""
        return bool(self.max_abs <= tolerance.max_abs and self.cosine >= tolerance.cosine)

    def __str__(self) -> str:
        return f"max abs {self.max_abs:.2e}, cosine {self.cosine:.9f}"


def compare(expected: np.ndarray, found: np.ndarray) -> Difference:
    """Measures two float arrays [N, D] of descriptors, or [D].

    Descriptors that are not of unit norm are measured as if they were: both sides are divided by the expected norm. The
    cosine is computed in float64, so that rounding does not hide a difference of 1e-7. Arrays of different shapes
    or with values that are not finite differ by NaN, which is within no tolerance.
    """
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Difference(float("nan"), float("nan"))
    a, b = (np.atleast_2d(np.asarray(values, np.float64)) for values in (expected, found))
    a, b = (values / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), NORM_EPSILON) for values in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
    return Difference(float(np.abs(a - b).max()), float(cosine.min()))


_SUMS = "float32 sums in another order; measured 2e-6 at most over every kind of layer with random weights, times 5"
_ORDER = "the same float32 operations in another order and other kernels; measured 2e-6 at most on pictures, times 5"
TOLERANCES = {
    "torch ↔ paddle": Tolerance(1e-5, 0.999999, _SUMS),
    "torch → onnx": Tolerance(1e-5, 0.999999, _SUMS),
    "paddle → onnx": Tolerance(1e-5, 0.999999, _SUMS),
    "onnx → normal form": Tolerance(1e-5, 0.999999, "BatchNorm and softmax folded into weights rounds them; " + _SUMS),
    "normal form → float16": Tolerance(
        4e-3,
        0.99998,
        "weights of 24 bits rounded to 11; measured 9e-4 at most on small members, 2e-4 on full-size ones, times 4",
    ),
    "normal form → savedmodel": Tolerance(1e-5, 0.999999, _SUMS),
    "savedmodel → tf 2.2": Tolerance(1e-5, 0.999999, _ORDER),
    "torch → tf 2.2": Tolerance(1e-5, 0.999999, "the whole line at once; " + _SUMS),
    "paddle → tf 2.2": Tolerance(1e-5, 0.999999, "the whole line at once; " + _SUMS),
    "members → ensemble": Tolerance(1e-5, 0.999999, "one multiplication a member; the batches' kernels are the same"),
    "preprocessing → graph": Tolerance(1e-5, 0.999999, "resampled pixels differ by 1e-4 of 255; " + _ORDER),
}
