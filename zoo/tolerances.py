"""The tolerance of each step of an export ("arrow"), and how the difference is measured.

Every arrow compares descriptors of unit norm. An entry of a 512-dimensional unit vector is about 0.044, so an absolute
error of 1e-3 would be 2 %. Therefore the cosine is checked too, NaN never passes, and there is no relative tolerance.
"""

import re
from dataclasses import dataclass

import numpy as np

from zoo.constants import NORM_EPSILON


@dataclass(frozen=True)
class Tolerance:
    """The largest absolute difference of an entry and the smallest cosine of a descriptor that pass, with the reason."""

    max_abs: float
    cosine: float
    reason: str


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference and the smallest cosine between two sets of descriptors."""

    max_abs: float
    cosine: float

    def within(self, tolerance: Tolerance) -> bool:
        """Whether both values are within the tolerance; NaN never is."""
        return bool(self.max_abs <= tolerance.max_abs and self.cosine >= tolerance.cosine)

    def __str__(self) -> str:
        return f"max abs {self.max_abs:.2e}, cosine {self.cosine:.9f}"


def compare(expected: np.ndarray, found: np.ndarray) -> Difference:
    """Compares two float arrays of descriptors, [N, D] or [D].

    Both are divided by the norm of the expected descriptors, so the result does not depend on their scale. The cosine
    is computed in float64, so that rounding does not hide a difference of 1e-7. If the shapes differ or a value is not
    finite, the result is NaN, which is never within a tolerance.
    """
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Difference(float("nan"), float("nan"))
    a, b = (np.atleast_2d(np.asarray(values, np.float64)) for values in (expected, found))
    a, b = (values / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), NORM_EPSILON) for values in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
    return Difference(float(np.abs(a - b).max()), float(cosine.min()))


_SUMS = "float32 sums in another order; at most 2e-6 measured over all kinds of layers with random weights, times 5"
_ORDER = "the same float32 operations in another order and other kernels; at most 2e-6 measured on photographs, times 5"
TOLERANCES = {
    "torch ↔ paddle": Tolerance(1e-5, 0.999999, _SUMS),
    "torch → onnx": Tolerance(1e-5, 0.999999, _SUMS),
    "paddle → onnx": Tolerance(1e-5, 0.999999, _SUMS),
    "onnx → normal form": Tolerance(1e-5, 0.999999, "folding BatchNorm and softmax into weights rounds them; " + _SUMS),
    "normal form → float16": Tolerance(
        4e-3,
        0.99998,
        "weights rounded from 24 bits to 11; at most 9e-4 measured on small networks and 2e-4 on full-size ones, times 4",
    ),
    "normal form → savedmodel": Tolerance(1e-5, 0.999999, _SUMS),
    "savedmodel → tf 2.2": Tolerance(1e-5, 0.999999, _ORDER),
    "torch → tf 2.2": Tolerance(1e-5, 0.999999, "end to end; " + _SUMS),
    "paddle → tf 2.2": Tolerance(1e-5, 0.999999, "end to end; " + _SUMS),
    "onnx → tf 2.2": Tolerance(1e-5, 0.999999, "end to end, of a network that came as an ONNX file; " + _SUMS),
    "members → ensemble": Tolerance(1e-5, 0.999999, "one multiplication per member; the kernels are the same"),
    "preprocessing → graph": Tolerance(1e-5, 0.999999, "resampled pixels differ by 1e-4 of 255; " + _ORDER),
}
_LAST = re.compile(r"→ tf \d+\.\d+$")


def tolerance_of(arrow: str) -> Tolerance | None:
    """The tolerance of a step; None if there is no such step. What ends in another TensorFlow is measured as what ends in 2.2."""
    return TOLERANCES.get(_LAST.sub("→ tf 2.2", arrow))
