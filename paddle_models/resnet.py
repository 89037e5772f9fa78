"""ResNet and its descendants (arXiv 1512.03385, 1812.01187, 1611.05431, 1709.01507, 1807.09441)."""

from collections.abc import Sequence

from paddle import Tensor, nn

from paddle_models.layers import SqueezeExcitation, convolution, first_norm, shortcut_pool, stem_pool
from zoo.errors import SpecError
from zoo.specs import BackboneSpec

LAYERS = ("layer1", "layer2", "layer3", "layer4")
"""The layers whose feature maps `features` returns."""


class BasicBlock(nn.Layer):
    """Two 3×3 convolutions and a shortcut.

    Input float [N, inputs, H, W]; output [N, planes, H / stride, W / stride].
    """

    def __init__(
        self,
        spec: BackboneSpec,
        layer: int,
        inputs: int,
        planes: int,
        stride: int,
        downsample: nn.Layer | None,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, planes, 3, stride)
        self.bn1 = first_norm(planes, spec.instance_normalised(layer))
        self.act1 = nn.ReLU()
        self.conv2 = convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2D(planes)
        self.se = squeeze_excitation(spec, planes)
        self.downsample = downsample or nn.Identity()
        self.act2 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        residual = self.act1(self.bn1(self.conv1(features)))
        residual = self.se(self.bn2(self.conv2(residual)))
        return self.act2(residual + self.downsample(features))


class Bottleneck(nn.Layer):
    """1×1, 3×3 and 1×1 convolutions and a shortcut.

    Input float [N, inputs, H, W]; output [N, planes · 4, H / stride, W / stride].
    """

    def __init__(
        self,
        spec: BackboneSpec,
        layer: int,
        inputs: int,
        planes: int,
        stride: int,
        downsample: nn.Layer | None,
    ) -> None:
        super().__init__()
        width, outputs = spec.group_width(planes), planes * spec.expansion
        first, second = (stride, 1) if spec.stride_in_first else (1, stride)
        self.conv1 = convolution(inputs, width, 1, first)
        self.bn1 = first_norm(width, spec.instance_normalised(layer))
        self.act1 = nn.ReLU()
        self.conv2 = convolution(width, width, 3, second, groups=spec.cardinality)
        self.bn2 = nn.BatchNorm2D(width)
        self.act2 = nn.ReLU()
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2D(outputs)
        self.se = squeeze_excitation(spec, planes)
        self.downsample = downsample or nn.Identity()
        self.act3 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        residual = self.act1(self.bn1(self.conv1(features)))
        residual = self.act2(self.bn2(self.conv2(residual)))
        residual = self.se(self.bn3(self.conv3(residual)))
        return self.act3(residual + self.downsample(features))


class ResNet(nn.Layer):
    """A stem and four layers of blocks.

    Input: float [N, 3, H, W]. Output: the last feature map, float [N, features, H / 32, W / 32], rounded up; H / 16, W / 16 if
    the spec's `last_stride` is 1.
    """

    def __init__(self, spec: BackboneSpec, block: type[nn.Layer]) -> None:
        super().__init__()
        self.conv1 = _stem(spec)
        self.bn1, self.act1 = _activation(spec.stem_channels, not spec.preactivated)
        self.maxpool = stem_pool(spec.stem_pool)
        channels, layers = spec.stem_channels, []
        for layer, planes in enumerate(spec.planes, start=1):
            layers.append(_layer(spec, block, layer, channels, planes))
            channels = planes * spec.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.bn_last, self.act_last = _activation(channels, spec.preactivated)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.layer4(self.layer3(self.layer2(self.layer1(self.first(images))))))

    def first(self, images: Tensor) -> Tensor:
        """The stem: images float [N, 3, H, W] to layer1's input float [N, C, H / 4, W / 4]."""
        return self.maxpool(self.act1(self.bn1(self.conv1(images))))

    def last(self, features: Tensor) -> Tensor:
        """The last feature map, from layer4's output: BatchNorm and ReLU in a pre-activation network, or the same."""
        return self.act_last(self.bn_last(features))

    def features(self, images: Tensor, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
        """The outputs of the named layers; layers after the last of them are not computed.

        Args:
            images: float [N, 3, H, W], normalised.
            layers: some of `LAYERS`.

        Returns:
            In the order of the network: layer1 float [N, C1, H / 4, W / 4], layer2 [N, C2, H / 8, W / 8],
            layer3 [N, C3, H / 16, W / 16], layer4 [N, C4, H / 32, W / 32], sizes rounded up. With
            `last_stride` 1, layer4 is as large as layer3; with `stride_at_end`, each layer has the size of the next one. layer4 of a
            pre-activation network includes its last BatchNorm and ReLU. The channels are `BackboneSpec.planes`, times its `expansion`.

        Raises:
            SpecError: there is no such layer.
        """
        if unknown := sorted(set(layers) - set(LAYERS)):
            raise SpecError(f"unknown layer {unknown[0]!r}; expected some of {', '.join(LAYERS)}")
        maps: dict[str, Tensor] = {}
        features = self.first(images)
        for name in LAYERS:
            if len(maps) == len(set(layers)):
                break
            features = getattr(self, name)(features)
            if name in layers:
                maps[name] = self.last(features) if name == LAYERS[-1] else features
        return maps


def _activation(channels: int, here: bool) -> tuple[nn.Layer, nn.Layer]:
    """BatchNorm and ReLU if the network has them here, else identities."""
    return (nn.BatchNorm2D(channels), nn.ReLU()) if here else (nn.Identity(), nn.Identity())


def squeeze_excitation(spec: BackboneSpec, planes: int) -> nn.Layer:
    """The block's squeeze-and-excitation, or an identity if the spec has none."""
    if not spec.squeeze_excitation:
        return nn.Identity()
    return SqueezeExcitation(planes * spec.expansion, spec.squeezed(planes))


def _stem(spec: BackboneSpec) -> nn.Layer:
    if spec.stem == "conv7x7":
        return convolution(3, spec.stem_channels, 7, stride=2, bias=spec.convolution_bias)
    first, second = spec.stem_widths
    return nn.Sequential(
        convolution(3, first, 3, stride=2),
        nn.BatchNorm2D(first),
        nn.ReLU(),
        convolution(first, second, 3),
        nn.BatchNorm2D(second),
        nn.ReLU(),
        convolution(second, spec.stem_channels, 3),
    )


def _layer(spec: BackboneSpec, block: type[nn.Layer], layer: int, inputs: int, planes: int) -> nn.Sequential:
    outputs, stride = planes * spec.expansion, spec.stride(layer, 0)
    first = block(spec, layer, inputs, planes, stride, _downsample(spec, layer, inputs, outputs, stride))
    others = (
        block(spec, layer, outputs, planes, spec.stride(layer, index), None)
        for index in range(1, spec.depths[layer - 1])
    )
    return nn.Sequential(first, *others)


def _downsample(spec: BackboneSpec, layer: int, inputs: int, outputs: int, stride: int) -> nn.Layer | None:
    if not spec.needs_shortcut(layer, inputs, outputs):
        return None
    if spec.preactivated:
        return convolution(inputs, outputs, 1, stride, bias=spec.convolution_bias)
    if spec.shortcut == "conv":
        return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2D(outputs))
    pool = shortcut_pool() if stride == 2 else nn.Identity()
    return nn.Sequential(pool, convolution(inputs, outputs, 1), nn.BatchNorm2D(outputs))
