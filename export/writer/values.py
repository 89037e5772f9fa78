"""Tensors of an ONNX file as TensorFlow has them: each remembers in which order its axes stand.

Maps are channels-last in TensorFlow and channels-first in ONNX. An ONNX Transpose only changes the remembered order, and a Reshape
leaves the axes where they are if those that it joins stand together. So TensorFlow transposes only where an operator needs
another order: LayerNorm over channels, a linear layer on maps or a Flatten of a 1×1 map need none.

This module imports TensorFlow; the rest of `export` imports it inside functions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.quiet_tensorflow import import_tensorflow
from zoo.errors import ExportError

tf = import_tensorflow()

MAPS = (0, 2, 3, 1)
"""Channels-last: where the axes of [N, C, H, W] stand in [N, H, W, C]."""
_PRIME = 1_000_003
"""A factor of an unknown length, and of no other, when shapes are compared."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor whose axis i is axis `order[i]` of the ONNX file's tensor."""

    tensor: Any
    order: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the ONNX file's tensor; None for an unknown length."""
        lengths = dict(zip(self.order, self.tensor.shape.as_list(), strict=True))
        return tuple(lengths[axis] for axis in range(self.rank))

    def place(self, axis: int) -> int:
        """Where an axis of the ONNX file's tensor, which may count from the end, stands."""
        return self.order.index(axis % self.rank)

    def by_place(self, numbers: Sequence[Any]) -> list[Any]:
        """One entry per axis of the ONNX file's tensor → one per axis of TensorFlow's."""
        return [numbers[axis] for axis in self.order]

    def permuted(self, permutation: Sequence[int]) -> "Value":
        """ONNX's Transpose, which moves nothing."""
        new = {old: place for place, old in enumerate(permutation)}
        return Value(self.tensor, tuple(new[axis] for axis in self.order))

    def in_order(self, order: Sequence[int], label: str) -> "Value":
        """The same value with its axes in another order."""
        order = tuple(order)
        if order == self.order:
            return self
        places, lengths = [self.order.index(axis) for axis in order], self.tensor.shape.as_list()
        tensor = self._transposed(order, label)
        if tensor is self.tensor:
            tensor = _reshape(tensor, [_or_rest(lengths[place]) for place in places], f"{label}/order")
        return Value(tensor, order)

    def plain(self, label: str) -> Any:
        """The tensor with its axes as in the ONNX file."""
        return self.in_order(range(self.rank), label).tensor

    def reshaped(self, shape: Sequence[int], label: str) -> "Value":
        """ONNX's Reshape; `shape` may have one -1, and no 0.

        Raises:
            ExportError: more than the batch is of unknown length, or the number of values differs.
        """
        old, new = _completed(self.shape, shape, label)
        groups = _groups(old, new)
        # Axes that are joined or divided must stand together, in the file's order; the groups stay where their first axis is.
        kept = [(axes, parts) for axes, parts in groups if axes and parts]
        kept.sort(key=lambda group: min(self.order.index(axis) for axis in group[0]))
        dropped = [axis for axes, parts in groups if not parts for axis in axes]
        tensor = self._transposed([*(axis for axes, _ in kept for axis in axes), *dropped], label)
        order = _with_ones([axis for _, parts in kept for axis in parts], len(new))
        return Value(_reshape(tensor, [-1 if new[axis] % _PRIME == 0 else new[axis] for axis in order], label), order)

    def without(self, axes: Sequence[int], tensor: Any) -> "Value":
        """`tensor`, which is this one without these axes of the ONNX file."""
        gone = {axis % self.rank for axis in axes}
        kept = [axis for axis in self.order if axis not in gone]
        return Value(tensor, tuple(sorted(kept).index(axis) for axis in kept))

    def _transposed(self, order: Sequence[int], label: str) -> Any:
        """A tensor whose axes are in another order, but for those of length 1, which may stand anywhere."""
        places, lengths = [self.order.index(axis) for axis in order], self.tensor.shape.as_list()
        long = [place for place in places if lengths[place] != 1]
        # A Reshape can say only one unknown length.
        if long == sorted(long) and sum(length is None for length in lengths) <= 1:
            return self.tensor
        axes = tf.constant(places, tf.int32, name=f"{label}/order/axes")
        return tf.raw_ops.Transpose(x=self.tensor, perm=axes, name=f"{label}/order")


def combined(values: Sequence["Value | np.ndarray"], label: str) -> tuple[list[Any], tuple[int, ...]]:
    """Operands of an operator that works entry by entry, so that TensorFlow broadcasts them as ONNX would.

    Returns:
        Their tensors and arrays, and the order of the result's axes.
    """
    rank = max(value.rank if isinstance(value, Value) else value.ndim for value in values)
    orders = [value.order for value in values if isinstance(value, Value) and value.rank == rank]
    order = MAPS if MAPS in orders or (not orders and rank == len(MAPS)) else (orders or [tuple(range(rank))])[0]
    found: list[Any] = []
    for value in values:
        if isinstance(value, Value):
            found.append(_widened(value, rank, label).in_order(order, label).tensor)
        elif value.size == 1:
            found.append(value)
        else:
            found.append(value.reshape((1,) * (rank - value.ndim) + value.shape).transpose(order))
    return found, order


def _widened(value: Value, rank: int, label: str) -> Value:
    """With leading axes of length 1."""
    more = rank - value.rank
    if not more:
        return value
    shape = [1] * more + [_or_rest(length) for length in value.tensor.shape.as_list()]
    order = (*range(more), *(axis + more for axis in value.order))
    return Value(_reshape(value.tensor, shape, f"{label}/widened"), order)


def _or_rest(length: int | None) -> int:
    return -1 if length is None else length


def _reshape(tensor: Any, shape: Sequence[int], label: str) -> Any:
    if [_or_rest(length) for length in tensor.shape.as_list()] == list(shape):
        return tensor
    lengths = tf.constant(list(shape), tf.int32, name=f"{label}/shape")
    return tf.raw_ops.Reshape(tensor=tensor, shape=lengths, name=label)


def _completed(old: Sequence[int | None], shape: Sequence[int], label: str) -> tuple[list[int], list[int]]:
    """Both shapes with a number for an unknown length and for -1."""
    if list(old).count(None) > 1:
        raise ExportError(f"{label!r} reshapes a tensor of which more than the batch is of unknown size")
    known = math.prod(length for length in shape if length != -1)
    # The unknown length may be the batch times something that the new shape separates again.
    before = [_PRIME * max(known, 1) if length is None else length for length in old]
    after = [math.prod(before) // known if length == -1 and known else length for length in shape]
    if math.prod(after) != math.prod(before):
        raise ExportError(f"{label!r} reshapes {list(old)} to {list(shape)}, which has another number of values")
    return before, after


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Which old axes become which new ones: the smallest runs of axes that have the same number of values."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and old[i] == 1:
            groups.append(([i], []))
            i += 1
        elif j < len(new) and new[j] == 1:
            groups.append(([], [j]))
            j += 1
        else:
            axes, parts, before, after = [i], [j], old[i], new[j]
            i, j = i + 1, j + 1
            while before != after:
                if before < after:
                    axes.append(i)
                    before, i = before * old[i], i + 1
                else:
                    parts.append(j)
                    after, j = after * new[j], j + 1
            groups.append((axes, parts))
    return groups


def _with_ones(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """An order of all axes of a result, of which `axes` are given and the others have length 1: channels-last if possible."""
    if rank == len(MAPS) and [axis for axis in MAPS if axis in axes] == list(axes):
        return MAPS
    order = list(axes)
    for axis in range(rank):
        if axis not in order:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(order)
