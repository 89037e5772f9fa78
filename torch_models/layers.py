"""Layers that PyTorch does not bring: split attention, generalised-mean pooling, the neck."""

from functools import reduce
from operator import add, mul

import torch
from torch import Tensor, nn

from zoo.specs import HeadSpec

GEM_EPSILON = 1e-6
NORM_EPSILON = 1e-12


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution padded so that stride 1 keeps height and width."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)


def shortcut_pool() -> nn.AvgPool2d:
    """The 2×2 average pooling of the "-D" shortcut; an odd edge is averaged over the pixels that exist."""
    return nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)


def block_pool(stride: int) -> nn.AvgPool2d:
    """ResNeSt's 3×3 average pooling after the split attention; padding counts, as in the original."""
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=True)


class SplitAttention(nn.Module):
    """A convolution whose `radix` outputs are weighted against each other, channel by channel (arXiv 2004.08955, §3).

    Input and output: float [N, channels, H, W].
    """

    def __init__(self, channels: int, hidden: int, radix: int, cardinality: int) -> None:
        super().__init__()
        self.channels, self.radix, self.cardinality = channels, radix, cardinality
        self.conv = convolution(channels, channels * radix, 3, groups=cardinality * radix)
        self.bn0 = nn.BatchNorm2d(channels * radix)
        self.act0 = nn.ReLU()
        self.fc1 = convolution(channels, hidden, 1, groups=cardinality, bias=True)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act1 = nn.ReLU()
        self.fc2 = convolution(hidden, channels * radix, 1, groups=cardinality, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        splits = self.act0(self.bn0(self.conv(features))).split(self.channels, dim=1)
        pooled = reduce(add, splits).mean((2, 3), keepdim=True)
        weights = self._softmax(self.fc2(self.act1(self.bn1(self.fc1(pooled)))))
        return reduce(add, map(mul, splits, weights))

    def _softmax(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Logits [N, cardinality · radix · c, 1, 1] → one weight [N, channels, 1, 1] a split; radix 1 is a sigmoid."""
        if self.radix == 1:
            return (logits.sigmoid(),)
        logits = logits.reshape(-1, self.cardinality, self.radix, self.channels // self.cardinality)
        weights = logits.transpose(1, 2).softmax(dim=1).reshape(-1, self.radix * self.channels, 1, 1)
        return weights.split(self.channels, dim=1)


class GeneralisedMean(nn.Module):
    """GeM pooling: the p-th root of the mean p-th power, p learnable (arXiv 1711.02512, eq. 3).

    Input: float [N, C, H, W]; output: float [N, C].
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p))

    def forward(self, features: Tensor) -> Tensor:
        return features.clamp(min=GEM_EPSILON).pow(self.p).mean((2, 3)).pow(1 / self.p)


class AveragePool(nn.Module):
    """Global average pooling. Input: float [N, C, H, W]; output: float [N, C]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


class Neck(nn.Module):
    """From pooled features [N, features] to the embedding [N, embedding_size]."""

    def __init__(self, features: int, head: HeadSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(features, head.embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(head.embedding_size) if head.neck == "linear_bn" else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.bn(self.linear(features))


def unit_norm(vectors: Tensor) -> Tensor:
    """Rows of [N, D] divided by their Euclidean norm; a row of zeros stays zero."""
    return vectors / vectors.square().sum(dim=1, keepdim=True).sqrt().clamp(min=NORM_EPSILON)
