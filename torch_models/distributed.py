"""Several processes that train one model: a group, descriptors gathered with their gradient, the loss of class weights that are
divided among the processes, and BatchNorm over the whole batch.

Every function also works alone, where it exchanges nothing. `torch.nn.SyncBatchNorm` refuses CPUs, which is one reason why the
BatchNorm here is our own; the other is that both frameworks then compute the same.
"""

import datetime
import functools
import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.nn  # before `join`: see `Group.leave`
from torch import Tensor, nn

_MINUTES = 30
"""After this time without an answer from another process, an exchange fails."""


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
        every = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(every, rows.contiguous())
        return torch.cat(every)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        if self.size == 1:
            return list(flags)
        return [bool(flag) for flag in self.largest(torch.tensor([float(flag) for flag in flags])).tolist()]

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
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, value)
        return every

    def leave(self) -> None:
        """Ends the exchange and its threads; no process may call the others afterwards.

        A thread that outlives the interpreter may abort the process, and the threads live as long as anything refers to their
        group: a trainer does, so call this where there is none any more. `torch.distributed.nn` keeps the group that exists
        when it is imported as a default of its functions, so it is imported before there is one; `torch.optim` would later.
        """
        if self.size > 1:
            gc.collect()  # a trainer's modules refer to each other
            dist.destroy_process_group()

    def _reduced(self, values: Tensor, how: Any) -> Tensor:
        if self.size == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values, how)
        return values


ALONE = Group()


def join(device: str) -> Group:
    """The group that a launcher (`torchrun`) made, or `ALONE`.

    Args:
        device: of the tensors that are exchanged. Processes that each have a GPU use NCCL; those on CPUs, and those that share a
            GPU, use gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    each = device != "cpu" and torch.cuda.device_count() >= here
    backend = "cpu:gloo,cuda:nccl" if each else "gloo"
    if device != "cpu":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=_MINUTES))
    return Group(dist.get_rank(), size)


class _GatheredDescriptors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, descriptors: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.gathered(descriptors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        group = ctx.group
        total = group.total(gradients[0])
        return total.chunk(group.size)[group.rank] * group.size, None


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


class _CrossEntropy(torch.autograd.Function):
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
        here, places = columns >= 0, (torch.arange(len(columns), device=columns.device), columns.clamp(min=0))
        logits = values.clone()  # becomes the exponentials, and in the backward pass the gradient
        logits[places] = torch.where(here, target, logits[places])
        top = group.largest(logits.amax(dim=1))
        logits.sub_(top[:, None])
        spread = logits.sum(dim=1) if smoothing else torch.zeros_like(top)
        own = torch.where(here, target - top, 0.0)
        width = torch.full_like(top, logits.shape[1])
        total, own, spread, classes = group.total(torch.stack([logits.exp_().sum(dim=1), own, spread, width]))
        each = smoothing / classes
        ctx.save_for_backward(logits, total, columns, slope, each)
        ctx.smoothing = smoothing
        loss = (total.log() - (1 - smoothing) * own - each * spread).mean()
        right = (own >= 0).to(top.dtype).mean()
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exponentials, total, columns, slope, each = ctx.saved_tensors
        share = gradients[0] / len(total)
        result = exponentials.mul_((share / total)[:, None])
        if ctx.smoothing:
            result.sub_((share * each)[:, None])
        here, places = columns >= 0, (torch.arange(len(columns), device=columns.device), columns.clamp(min=0))
        found = result[places]
        result[places] = torch.where(here, (found - share * (1 - ctx.smoothing)) * slope, found)
        return result, None, None, None, None, None


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


class _SharedStatistics(torch.autograd.Function):
    """Normalises by the statistics of all processes' batches. The centred squares are summed after the mean is known:
    the mean of squares minus the squared mean loses many digits in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, epsilon: float, group: Group
    ) -> tuple[Tensor, ...]:
        axes, shape = [axis for axis in range(features.ndim) if axis != 1], [1, -1] + [1] * (features.ndim - 2)
        channels = features.shape[1]
        count = features.new_tensor([features.numel() // channels])
        sums = group.total(torch.cat([features.sum(axes), count]))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = features - mean.view(shape)
        variance = group.total((centred * centred).sum(axes)) / count
        inverse = (variance + epsilon).rsqrt()
        normalised = centred * inverse.view(shape)
        ctx.save_for_backward(normalised, weight, inverse, count)
        ctx.axes, ctx.shape, ctx.group = axes, shape, group
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised * weight.view(shape) + bias.view(shape), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normalised, weight, inverse, count = ctx.saved_tensors
        shape, gradient = ctx.shape, gradients[0]
        for_bias, for_weight = gradient.sum(ctx.axes), (gradient * normalised).sum(ctx.axes)
        means = ctx.group.total(torch.cat([for_bias, for_weight])) / count
        mean, along = means.chunk(2)
        inner = gradient - mean.view(shape) - normalised * along.view(shape)
        return inner * (weight * inverse).view(shape), for_weight, for_bias, None, None


def _synchronised(layer: nn.BatchNorm1d | nn.BatchNorm2d, group: Group, features: Tensor) -> Tensor:
    """What the layer's `forward` does, with the statistics of all processes' batches in training."""
    if not layer.training:
        return type(layer).forward(layer, features)  # pyright: ignore[reportArgumentType] (its own type)
    wide = features.to(layer.weight.dtype)
    output, mean, variance, count = _SharedStatistics.apply(wide, layer.weight, layer.bias, layer.eps, group)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.momentum is not None
    with torch.no_grad():
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), layer.momentum)
    return output.to(features.dtype)


def synchronise_batch_norm(model: nn.Module, group: Group) -> None:
    """Makes every BatchNorm of a model use the statistics of all processes' batches. Names and tensors stay the same."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(layer, "forward", functools.partial(_synchronised, layer, group))  # noqa: B010 (typed as a method)


def sums_of_squares(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of the squares of all values, as float64 [1]."""
    norms = torch._foreach_norm(list(tensors)) if tensors else [torch.zeros(())]  # pyright: ignore[reportPrivateImportUsage]
    stacked = torch.stack(list(norms)).double()
    return (stacked * stacked).sum().reshape(1)
