"""What an ensemble does around its networks: views of an image, weights, concatenation, norm, whitening.

Written once for any array library, so that the TensorFlow graph and the numpy reference use the same formula.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from zoo.constants import SQUARED_NORM_EPSILON
from zoo.errors import ExportError
from zoo.signature import batch_input, read_batch_input

NORMS = ("constant", "l2", "none")


class Arrays(Protocol):
    """The few operations that combining descriptors needs, on arrays float32 [N, D]."""

    def constant(self, values: np.ndarray) -> Any: ...
    def concat(self, parts: Sequence[Any]) -> Any: ...
    def matmul(self, left: Any, right: Any) -> Any: ...
    def unit(self, values: Any) -> Any: ...


class NumpyArrays:
    """`Arrays` in numpy."""

    constant = staticmethod(np.float32)
    matmul = staticmethod(np.matmul)

    @staticmethod
    def concat(parts: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenated along the last axis."""
        return np.concatenate(parts, axis=1)

    @staticmethod
    def unit(values: np.ndarray) -> np.ndarray:
        """Each row divided by its Euclidean norm."""
        return values / np.sqrt(np.maximum((values**2).sum(axis=1, keepdims=True), np.float32(SQUARED_NORM_EPSILON)))


@dataclass(frozen=True)
class Whitening:
    """PCA-whitening: (x - mean) @ matrix, then unit norm; mean float32 [D], matrix float32 [D, K]."""

    mean: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True)
class Combination:
    """How descriptors are computed from the networks' outputs.

    Attributes:
        scales: factors of each member's own resolution at which an image is embedded.
        flip: embed the image mirrored left to right as well.
        norm: of the concatenation: "constant" divides by the weights' Euclidean norm, which makes it 1 if the
            members' norms are and changes no ranking; "l2" divides by its own norm; "none" does not divide.
        whitening: applied last, to the concatenation.

    With several views of an image, a member's descriptor is their sum divided by its Euclidean norm.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    norm: str = "constant"
    whitening: Whitening | None = None

    def views(self, own: str) -> list[str]:
        """The batch inputs of a member whose own input is `own`: one per scale."""
        size, resize = read_batch_input(own)
        return [batch_input(max(1, round(size * scale)), resize) for scale in self.scales]

    def member(self, views: Sequence[Any], arrays: Arrays) -> Any:
        """One member's descriptors [N, D] from those of its views."""
        return views[0] if len(views) == 1 else arrays.unit(sum(views[1:], start=views[0]))

    def combine(self, parts: Sequence[Any], weights: Sequence[float], arrays: Arrays) -> Any:
        """Members' descriptors [N, D], each with its weight → the ensemble's [N, ΣD], or [N, K] with whitening.

        Raises:
            ExportError: the whitening is for descriptors of another length.
        """
        norm = sum(weight**2 for weight in weights) ** 0.5 if self.norm == "constant" else 1.0
        scaled = [
            part if weight == norm else part * arrays.constant(np.float32(weight / norm))
            for part, weight in zip(parts, weights, strict=True)
        ]
        whole = scaled[0] if len(scaled) == 1 else arrays.concat(scaled)
        whole = arrays.unit(whole) if self.norm == "l2" else whole
        if self.whitening is None:
            return whole
        if whole.shape[1] != len(self.whitening.mean):
            raise ExportError(
                f"the whitening was fitted to descriptors of {len(self.whitening.mean)} numbers, and these have "
                f"{whole.shape[1]}. Fit it to this ensemble's own: `python -m retrieval.whitening`."
            )
        centred = whole - arrays.constant(self.whitening.mean)
        return arrays.unit(arrays.matmul(centred, arrays.constant(self.whitening.matrix)))


PLAIN = Combination()
"""One view, unit norm by a constant."""
