"""Res2Net's block (arXiv 1904.01169): a bottleneck whose 3×3 convolution is a hierarchy of splits."""

import torch
from torch import Tensor, nn

from torch_models.layers import block_pool, convolution
from zoo.specs import BackboneSpec


class Res2NetBottleneck(nn.Module):
    """A 1×1 convolution whose output is split; a hierarchy of 3×3 convolutions; a 1×1 convolution; and a shortcut.

    Each split but the last passes a 3×3 convolution, after the output of the previous split has been added to it. In
    the first block of a layer nothing is added, and the last split is average-pooled (in layer1 only if
    `hierarchy_from_first` is off).
    Input float [N, inputs, H, W]; output [N, planes · 4, H / stride, W / stride].
    """

    def __init__(
        self,
        spec: BackboneSpec,
        layer: int,
        inputs: int,
        planes: int,
        stride: int,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        width, outputs = spec.group_width(planes), planes * spec.expansion
        self.width = width
        self.hierarchy = downsample is None or (stride == 1 and spec.hierarchy_from_first)
        self.conv1 = convolution(inputs, width * spec.scale, 1)
        self.bn1 = nn.BatchNorm2d(width * spec.scale)
        self.act1 = nn.ReLU()
        splits = range(spec.scale - 1)
        self.convs = nn.ModuleList([convolution(width, width, 3, stride, groups=spec.cardinality) for _ in splits])
        self.bns = nn.ModuleList([nn.BatchNorm2d(width) for _ in splits])
        self.acts = nn.ModuleList([nn.ReLU() for _ in splits])
        self.pool = nn.Identity() if self.hierarchy else block_pool(stride, spec.pool_counts_padding)
        self.conv3 = convolution(width * spec.scale, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = downsample or nn.Identity()
        self.act3 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        splits = self.act1(self.bn1(self.conv1(features))).split(self.width, dim=1)
        outputs: list[Tensor] = []
        # No `strict=`: Paddle's to_static does not support it.
        for index, (conv, bn, act) in enumerate(zip(self.convs, self.bns, self.acts)):  # noqa: B905
            split = splits[index]
            if self.hierarchy and index > 0:
                split = split + outputs[-1]
            outputs.append(act(bn(conv(split))))
        outputs.append(self.pool(splits[-1]))
        residual = self.bn3(self.conv3(torch.cat(outputs, dim=1)))
        return self.act3(residual + self.downsample(features))
