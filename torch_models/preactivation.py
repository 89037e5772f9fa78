"""ResNet v2's block (arXiv 1603.05027): BatchNorm and ReLU stand before each convolution, and the sum is not activated."""

from torch import Tensor, nn

from torch_models.layers import convolution
from zoo.specs import BackboneSpec


class PreactivationBottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, each behind its BatchNorm and ReLU, and a shortcut.

    A shortcut with a convolution reads the first ReLU's output; any other reads the input, and with a stride it keeps every second
    pixel.
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
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = nn.ReLU()
        self.conv1 = convolution(inputs, width, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.conv2 = convolution(width, width, 3, stride, groups=spec.cardinality)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU()
        self.conv3 = convolution(width, outputs, 1, bias=spec.convolution_bias)
        self.projects = downsample is not None
        self.downsample = downsample or (nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity())

    def forward(self, features: Tensor) -> Tensor:
        activated = self.act1(self.bn1(features))
        shortcut = self.downsample(activated if self.projects else features)
        residual = self.conv2(self.act2(self.bn2(self.conv1(activated))))
        return self.conv3(self.act3(self.bn3(residual))) + shortcut
