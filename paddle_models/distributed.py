"""Several processes that train one model: a group, descriptors gathered with their gradient, the loss of class weights that are
divided among the processes, and BatchNorm over the whole batch.

Every function also works alone, where it exchanges nothing. Paddle's own parts cannot be used everywhere: on CPUs,
`all_gather` has no gradient, and SyncBatchNorm and `margin_cross_entropy` have no kernel.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.nn.clip import _squared_l2_norm


@dataclass(frozen=True)
class Group:
    """The processes of a training, of which this is one.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, without a gradient; alone, `values` itself."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, values: Tensor) -> Tensor:
        """The largest value over all processes, without a gradient; alone, `values` itself."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes in the order of their ranks, without a gradient; each has the same number."""
        if self.size == 1:
            return rows
        every: list[Tensor] = []
        dist.all_gather(every, rows)
        return paddle.concat(every)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        if self.size == 1:
            return list(flags)
        return (self.largest(paddle.to_tensor([float(flag) for flag in flags])).numpy() > 0).tolist()

    def wait(self) -> None:
        """Returns when every process has called it."""
        if self.size > 1:
            dist.barrier()

    def shared(self, value: Any) -> Any:
        """The value of process 0, any that JSON knows."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def collected(self, value: Any) -> list[Any]:
        """The values of all processes in the order of their ranks."""
        if self.size == 1:
            return [value]
        every: list[Any] = []
        dist.all_gather_object(every, value)
        return every

    def leave(self) -> None:
        """Ends the exchange; no process may call the others afterwards."""
        if self.size > 1:
            dist.destroy_process_group()

    def _reduced(self, values: Tensor, how: Any) -> Tensor:
        if self.size == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values, how)
        return values


ALONE = Group()


def join(device: str) -> Group:
    """The group that a launcher (`python -m paddle.distributed.launch`) made, or `ALONE`.

    Args:
        device: of the tensors that are exchanged; processes on GPUs use NCCL, those on CPUs gloo.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return ALONE
    paddle.device.set_device(device.replace("cuda", "gpu"))
    dist.init_parallel_env()
    return Group(dist.get_rank(), dist.get_world_size())


class _GatheredDescriptors(PyLayer):
    @staticmethod
    def forward(ctx: Any, descriptors: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.gathered(descriptors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        group = ctx.group
        total = group.total(gradients[0])
        return total.chunk(group.size)[group.rank] * group.size


def gather_descriptors(descriptors: Tensor, group: Group) -> Tensor:
    """The descriptors of all processes, float [processes · N, D], with a gradient.

    Each process computes the loss of the whole batch against its own classes. The gradient of a descriptor is the sum of what
    all processes found, times their number, because data parallelism averages the network's gradients.
    """
    return descriptors if group.size == 1 else _GatheredDescriptors.apply(descriptors, group)


class MarginLogits(NamedTuple):
    """A batch against the classes of one process.

    Attributes:
        values: float [N, classes here], scaled cosines without the margin.
        columns: int64 [N], where an image's own class stands in `values`; -1 if another process has it.
        target: float [N], the logit that replaces the one of the image's own class: the margin is in it. 0 where the column
            is -1. Without a gradient.
        slope: float [N], the derivative of `target` with respect to the value that it replaces. Without a gradient.
    """

    values: Tensor
    columns: Tensor
    target: Tensor
    slope: Tensor


class _CrossEntropy(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        columns: Tensor,
        target: Tensor,
        slope: Tensor,
        group: Group,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        # Without a mask of rows, whose length the processor would have to wait for.
        here, places = columns >= 0, (paddle.arange(len(columns)), columns.clip(min=0))
        logits = values.clone()  # becomes the exponentials, and in the backward pass the gradient
        found = paddle.gather_nd(logits, paddle.stack(places, axis=1))
        logits.index_put_(places, paddle.where(here, target, found))
        top = group.largest(logits.max(axis=1))
        logits.subtract_(top[:, None])
        spread = logits.sum(axis=1) if smoothing else paddle.zeros_like(top)
        own = paddle.where(here, target - top, paddle.zeros_like(top))
        width = paddle.full_like(top, logits.shape[1])
        total, own, spread, classes = group.total(
            paddle.stack([logits.exp_().sum(axis=1), own, spread, width])
        ).unbind()
        each = smoothing / classes
        ctx.save_for_backward(logits, total, columns, slope, each)
        ctx.smoothing = smoothing
        loss = (total.log() - (1 - smoothing) * own - each * spread).mean()
        right = (own >= 0).astype(top.dtype).mean()
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exponentials, total, columns, slope, each = ctx.saved_tensor()
        share = gradients[0] / len(total)
        result = exponentials.multiply_((share / total)[:, None])
        if ctx.smoothing:
            result.subtract_((share * each)[:, None])
        here, places = columns >= 0, (paddle.arange(len(columns)), columns.clip(min=0))
        found = paddle.gather_nd(result, paddle.stack(places, axis=1))
        result.index_put_(places, paddle.where(here, (found - share * (1 - ctx.smoothing)) * slope, found))
        return result, None, None, None


def cross_entropy(logits: MarginLogits, group: Group = ALONE, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean cross entropy over a batch whose classes are divided among processes; every process gets the same values.

    It computes the exponentials once and turns them into the gradient in place: a batch against 200,000 classes needs two
    matrices of logits and no one-hot vectors. The backward pass can run once. Not the framework's own function, because
    Paddle's clips differences of logits at 64 on CPUs, and at scale 30 they can be larger.

    Args:
        logits: of this process's classes.
        group: the processes.
        smoothing: share of the target that is spread over all classes (arXiv 1512.00567, §7).

    Returns:
        The loss, and the share of the images whose own class has the largest logit: float scalars, the second without a
        gradient.
    """
    return _CrossEntropy.apply(*logits, group, smoothing)


class _SharedStatistics(PyLayer):
    """Normalises by the statistics of all processes' batches. The centred squares are summed after the mean is known:
    the mean of squares minus the squared mean loses many digits in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, epsilon: float, group: Group
    ) -> tuple[Tensor, ...]:
        axes, shape = [axis for axis in range(features.ndim) if axis != 1], [1, -1] + [1] * (features.ndim - 2)
        channels = features.shape[1]
        count = paddle.full([1], features.size // channels, features.dtype)
        sums = group.total(paddle.concat([features.sum(axes), count]))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = features - mean.reshape(shape)
        variance = group.total((centred * centred).sum(axes)) / count
        inverse = (variance + epsilon).rsqrt()
        normalised = centred * inverse.reshape(shape)
        ctx.save_for_backward(normalised, weight, inverse, count)
        ctx.axes, ctx.shape, ctx.group = axes, shape, group
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised * weight.reshape(shape) + bias.reshape(shape), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normalised, weight, inverse, count = ctx.saved_tensor()
        shape, gradient = ctx.shape, gradients[0]
        for_bias, for_weight = gradient.sum(ctx.axes), (gradient * normalised).sum(ctx.axes)
        means = ctx.group.total(paddle.concat([for_bias, for_weight])) / count
        mean, along = means.chunk(2)
        inner = gradient - mean.reshape(shape) - normalised * along.reshape(shape)
        return inner * (weight * inverse).reshape(shape), for_weight, for_bias


def _synchronised(layer: nn.BatchNorm1D | nn.BatchNorm2D, group: Group, features: Tensor) -> Tensor:
    """What the layer's `forward` does, with the statistics of all processes' batches in training."""
    if not layer.training:
        return type(layer).forward(layer, features)  # pyright: ignore[reportArgumentType] (its own type)
    assert layer.weight is not None
    wide = features.astype(layer.weight.dtype)
    # Paddle's own kernel has both of these in float32, and one process must compute what several do.
    epsilon, kept = float(np.float32(layer._epsilon)), float(np.float32(layer._momentum))
    output, mean, variance, count = _SharedStatistics.apply(wide, layer.weight, layer.bias, epsilon, group)
    with paddle.no_grad():
        unbiased = variance * (count / (count - 1).clip(min=1))
        layer._mean.set_value(layer._mean * kept + mean * (1 - kept))
        layer._variance.set_value(layer._variance * kept + unbiased * (1 - kept))
    return output.astype(features.dtype)


def synchronise_batch_norm(model: nn.Layer, group: Group) -> None:
    """Makes every BatchNorm of a model use the statistics of all processes' batches. Names and tensors stay the same."""
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, nn.BatchNorm1D | nn.BatchNorm2D):
            setattr(layer, "forward", functools.partial(_synchronised, layer, group))  # noqa: B010 (typed as a method)


def sums_of_squares(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of the squares of all values, as float64 [1].

    By the operator of Paddle's own gradient clipping. On CPUs `paddle.dot` adds one product after the other: of ten million values
    in float32 it loses 2 %, of a hundred million more than 14 %, and it is 4 times slower.
    """
    total = paddle.zeros([1], "float64")
    for tensor in tensors:
        total = total + _squared_l2_norm(tensor).astype("float64").reshape([1])
    return total
