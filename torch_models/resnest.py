"""ResNeSt's block (arXiv 2004.08955): a bottleneck whose 3×3 convolution is a split attention."""

from torch import Tensor, nn

from torch_models.layers import SplitAttention, block_pool, convolution
from zoo.specs import BackboneSpec


class SplitAttentionBottleneck(nn.Module):
    """1×1 convolution, split attention, 1×1 convolution and a shortcut.

    In the first block of layer2 … layer4, a 3×3 average pooling has the stride, also a stride of 1. It follows the split
    attention, or precedes it (`avd_first`).

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
        pools = layer > 1 and downsample is not None
        pool = block_pool(stride, spec.pool_counts_padding) if pools else nn.Identity()
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.avd_first = pool if spec.avd_first else nn.Identity()
        hidden = spec.attention_channels(planes)
        self.conv2 = SplitAttention(width, hidden, spec.radix, spec.cardinality, spec.attention_bias)
        self.avd_last = nn.Identity() if spec.avd_first else pool
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = downsample or nn.Identity()
        self.act3 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        residual = self.avd_first(self.act1(self.bn1(self.conv1(features))))
        residual = self.avd_last(self.conv2(residual))
        residual = self.bn3(self.conv3(residual))
        return self.act3(residual + self.downsample(features))
