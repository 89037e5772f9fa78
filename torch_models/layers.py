"""Layers that PyTorch does not provide: split attention, squeeze-and-excitation, IBN-a, the poolings and the neck."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zoo.constants import GEM_EPSILON, NORM_EPSILON
from zoo.specs import HeadSpec


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution padded so that height and width stay the same at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)


def stem_pool(padding: str) -> nn.Module:
    """The stem's 3×3 maximum pooling with stride 2, padded as `BackboneSpec.stem_pool` says."""
    if padding == "zeros":
        return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, 2))
    return nn.MaxPool2d(3, 2, padding=1) if padding == "padded" else nn.MaxPool2d(3, 2, ceil_mode=True)


def shortcut_pool() -> nn.AvgPool2d:
    """The 2×2 average pooling of the "-D" shortcut; at an odd edge, only the pixels that exist are averaged."""
    return nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)


def block_pool(stride: int, counts_padding: bool) -> nn.AvgPool2d:
    """The 3×3 average pooling of ResNeSt's and Res2Net's blocks; the mean may count the padding's zeros."""
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=counts_padding)


def first_norm(channels: int, ibn: bool) -> nn.Module:
    """The first normalisation of a block: IBN-a's if `ibn`, else BatchNorm."""
    return InstanceBatchNorm(channels) if ibn else nn.BatchNorm2d(channels)


class InstanceBatchNorm(nn.Module):
    """IBN-a (arXiv 1807.09441, figure 3a): InstanceNorm on the first half of the channels, BatchNorm on the rest.

    Input and output: float [N, channels, H, W].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widths = [channels // 2, channels - channels // 2]
        self.IN = nn.InstanceNorm2d(self.widths[0], affine=True)
        self.BN = nn.BatchNorm2d(self.widths[1])

    def forward(self, features: Tensor) -> Tensor:
        parts = features.split(self.widths, dim=1)
        return torch.cat((self.IN(parts[0]), self.BN(parts[1])), dim=1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a weight computed from the averages of all channels (arXiv 1709.01507, §3).

    Input and output: float [N, channels, H, W].
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = convolution(channels, hidden, 1, bias=True)
        self.act = nn.ReLU()
        self.fc2 = convolution(hidden, channels, 1, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.fc2(self.act(self.fc1(features.mean((2, 3), keepdim=True)))).sigmoid()


class SplitAttention(nn.Module):
    """A convolution with `radix` outputs, summed with softmax weights per channel (arXiv 2004.08955, §3).

    Input and output: float [N, channels, H, W].
    """

    def __init__(self, channels: int, hidden: int, radix: int, cardinality: int, bias: bool = True) -> None:
        super().__init__()
        self.channels, self.radix, self.cardinality = channels, radix, cardinality
        self.conv = convolution(channels, channels * radix, 3, groups=cardinality * radix)
        self.bn0 = nn.BatchNorm2d(channels * radix)
        self.act0 = nn.ReLU()
        self.fc1 = convolution(channels, hidden, 1, groups=cardinality, bias=bias)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act1 = nn.ReLU()
        self.fc2 = convolution(hidden, channels * radix, 1, groups=cardinality, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        splits = self.act0(self.bn0(self.conv(features))).split(self.channels, dim=1)
        total = splits[0]
        for index in range(1, self.radix):
            total = total + splits[index]
        pooled = total.mean((2, 3), keepdim=True)
        weights = self._softmax(self.fc2(self.act1(self.bn1(self.fc1(pooled)))))
        weighted = splits[0] * weights[0]
        for index in range(1, self.radix):
            weighted = weighted + splits[index] * weights[index]
        return weighted

    def _softmax(self, logits: Tensor) -> list[Tensor]:
        """Logits [N, channels · radix, 1, 1] → one weight [N, channels, 1, 1] per split; a sigmoid if radix is 1."""
        if self.radix == 1:
            return [logits.sigmoid()]
        logits = logits.reshape(-1, self.cardinality, self.radix, self.channels // self.cardinality)
        weights = logits.transpose(1, 2).softmax(dim=1).reshape(-1, self.radix * self.channels, 1, 1)
        return weights.split(self.channels, dim=1)  # a list in TorchScript, a tuple in Python


class GeneralisedMean(nn.Module):
    """GeM pooling: the p-th root of the mean p-th power (arXiv 1711.02512, eq. 3).

    Input: float [N, C, H, W]; output: float [N, C].
    """

    def __init__(self, p: float, learned: bool) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p)) if learned else p
        self.epsilon = GEM_EPSILON

    def forward(self, features: Tensor) -> Tensor:
        return features.clamp(min=self.epsilon).pow(self.p).mean((2, 3)).pow(1 / self.p)


class AveragePool(nn.Module):
    """Global average pooling. Input: float [N, C, H, W]; output: float [N, C]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


class MaxPool(nn.Module):
    """Global maximum pooling. Input: float [N, C, H, W]; output: float [N, C]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.amax((2, 3))


class ConcatenatedPool(nn.ModuleDict):
    """Two poolings, concatenated. Input: float [N, C, H, W]; output: float [N, 2 · C]."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([pool(features) for pool in self.values()], dim=1)


def global_pool(head: HeadSpec) -> nn.Module:
    """The head's pooling, from float [N, C, H, W] to [N, C], or [N, 2 · C] if two are concatenated."""
    made = {"gem": lambda: GeneralisedMean(head.gem_p, head.gem_p_learned), "avg": AveragePool, "max": MaxPool}
    pools = {name: made[name]() for name in head.pools}
    return pools[head.pool] if len(pools) == 1 else ConcatenatedPool(pools)


def neck(features: int, head: HeadSpec) -> nn.Sequential:
    """The layers between pooled features [N, features] and the descriptor before its scaling to unit norm [N, D].

    They are called l2, linear, bn and whitening, as far as the head has them; without a neck there are none.
    """
    layers, size = OrderedDict[str, nn.Module](), features
    if head.l2_before_neck:
        layers["l2"] = UnitNorm()
    for name in head.neck_layers:
        if name == "bn":
            layers[name] = nn.BatchNorm1d(size)
        else:
            layers[name] = nn.Linear(size, head.embedding_size, bias=head.neck_bias)
            size = head.embedding_size
    if head.whitening_size:
        layers["whitening"] = nn.Sequential(OrderedDict(l2=UnitNorm(), linear=nn.Linear(size, head.whitening_size)))
    return nn.Sequential(layers)


class UnitNorm(nn.Module):
    """Scales vectors float [N, D] to unit norm; a row of zeros stays zero."""

    def __init__(self) -> None:
        super().__init__()
        self.epsilon = NORM_EPSILON

    def forward(self, vectors: Tensor) -> Tensor:
        return unit_norm(vectors, self.epsilon)


def unit_norm(vectors: Tensor, epsilon: float) -> Tensor:
    """Rows of [N, D] divided by their Euclidean norm, or by `epsilon` if that is larger: a row of zeros stays zero."""
    return vectors / (vectors * vectors).sum(dim=1, keepdim=True).sqrt().clamp(min=epsilon)
