"""What a model is, as data: one frozen spec a variant, each row saying only how it differs.

Both frameworks build a network from these specs alone, so a variant exists in both or in neither.

Sources: ResNet (arXiv 1512.03385, stride in the 3×3 convolution as in torchvision), the "-D"/"vd" stem and shortcut
(arXiv 1812.01187), ResNeSt (arXiv 2004.08955), GeM (arXiv 1711.02512), and the head of the 2nd place solution of Google
Landmark Retrieval 2020 (arXiv 2210.01624): GeM, then a linear layer to 512 without bias.
"""

import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Literal

from zoo.errors import SpecError


@dataclass(frozen=True)
class BackboneSpec:
    """A residual network up to its last feature map.

    Attributes:
        depths: blocks in layer1 … layer4.
        block: `basic` (two 3×3), `bottleneck` (1×1, 3×3, 1×1) or `split_attention` (ResNeSt's bottleneck).
        planes: channels of the 3×3 convolution in layer1 … layer4 at cardinality 1 and base width 64.
        stem: `conv7x7`, or `deep`: three 3×3 convolutions of `stem_width`, `stem_width` and the stem's output channels.
        stem_width: channels of the deep stem's first two convolutions.
        stem_channels: channels that the stem hands to layer1.
        shortcut: how a block's shortcut gets smaller: `conv` (1×1 with stride) or `avg_conv` (2×2 average pooling that
            does not count padding, then 1×1: the "-D" shortcut).
        cardinality: groups of the 3×3 convolution (ResNeXt's meaning), within each radix split.
        base_width: channels of one group where `planes` is 64.
        radix: splits that ResNeSt's attention chooses among.
        reduction: how much narrower than its input the attention's hidden layer is (never below 32 channels).
    """

    depths: tuple[int, int, int, int]
    block: Literal["basic", "bottleneck", "split_attention"] = "bottleneck"
    planes: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem: Literal["conv7x7", "deep"] = "conv7x7"
    stem_width: int = 32
    stem_channels: int = 64
    shortcut: Literal["conv", "avg_conv"] = "conv"
    cardinality: int = 1
    base_width: int = 64
    radix: int = 1
    reduction: int = 4

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its planes."""
        return 1 if self.block == "basic" else 4

    @property
    def features(self) -> int:
        """Channels of the last feature map."""
        return self.planes[-1] * self.expansion

    def group_width(self, planes: int) -> int:
        """Channels of a block's 3×3 convolution."""
        return planes * self.base_width // 64 * self.cardinality

    def attention_channels(self, planes: int) -> int:
        """Channels of the hidden layer of a block's split attention."""
        return max(self.group_width(planes) * self.radix // self.reduction, 32)


@dataclass(frozen=True)
class HeadSpec:
    """From the last feature map to the descriptor.

    Attributes:
        pool: `gem` (generalised mean with a learnable exponent) or `avg`.
        gem_p: the exponent that training starts from.
        neck: `linear` (no bias), `linear_bn` (no bias, then BatchNorm) or `none` (the pooled features are the embedding).
        embedding_size: length of the embedding; must equal the backbone's features where there is no neck.
    """

    pool: Literal["gem", "avg"] = "gem"
    gem_p: float = 3.0
    neck: Literal["linear", "linear_bn", "none"] = "linear"
    embedding_size: int = 512


@dataclass(frozen=True)
class PreprocessSpec:
    """How a uint8 RGB image becomes the network's input (`zoo.preprocess`).

    Attributes:
        size: height and width in pixels that an image of any shape is resized to.
        mean, std: of each channel, in the network's channel order, for pixels from 0 to 1 (ImageNet's by default).
        channels: the order that the network wants.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channels: Literal["rgb", "bgr"] = "rgb"


@dataclass(frozen=True)
class ModelSpec:
    """One member of the zoo: a backbone, a head and the preprocessing that belong together."""

    name: str
    backbone: BackboneSpec
    head: HeadSpec = field(default_factory=HeadSpec)
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)

    def __post_init__(self) -> None:
        backbone, head = self.backbone, self.head
        if head.neck == "none" and head.embedding_size != backbone.features:
            raise SpecError(
                f"{self.name}: without a neck the embedding is the pooled features, {backbone.features} long; "
                f"found embedding_size {head.embedding_size}. Set it to {backbone.features} or choose a neck."
            )
        if backbone.block != "split_attention" and backbone.radix != 1:
            raise SpecError(
                f"{self.name}: radix {backbone.radix} needs block 'split_attention', found {backbone.block!r}"
            )
        if backbone.block == "basic" and (backbone.cardinality, backbone.base_width) != (1, 64):
            raise SpecError(f"{self.name}: a basic block has cardinality 1 and base width 64")
        if self.preprocess.size < 32:
            raise SpecError(f"{self.name}: size {self.preprocess.size} is below 32, the backbone's stride")

    def resized(self, size: int) -> "ModelSpec":
        """The same model serving images at another size ("Fix": testing above the training resolution)."""
        return replace(self, preprocess=replace(self.preprocess, size=size))

    def to_dict(self) -> dict:
        """Plain values for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict) -> "ModelSpec":
        """Reads `to_dict`'s values strictly.

        Raises:
            SpecError: an unknown or missing key, or a value of another kind than the field's.
        """
        return read_fields(ModelSpec, values, "spec")


def read_fields(kind: type, values: object, where: str) -> typing.Any:
    """A dataclass from plain values, strictly: the reader of specs and recipes.

    Raises:
        SpecError: an unknown or missing key, or a value of another kind than the field's.
    """
    if not isinstance(values, dict):
        raise SpecError(f"{where}: expected a mapping, found {values!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(map(str, values.keys() - hints.keys()))
    if unknown:
        raise SpecError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(hints)}")
    required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    missing = sorted(required - values.keys())
    if missing:
        raise SpecError(f"{where}: the key {missing[0]!r} is missing")
    return kind(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: typing.Any, value: object, where: str) -> typing.Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return read_fields(hint, value, where)
    if origin is types.UnionType:
        return None if value is None else _convert(arguments[0], value, where)
    if origin is list:
        if not isinstance(value, list):
            raise SpecError(f"{where}: expected a list, found {value!r}")
        return [_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            raise SpecError(f"{where}: expected {len(arguments)} values, found {value!r}")
        return tuple(_convert(item_hint, item, where) for item_hint, item in zip(arguments, value, strict=True))
    if origin is typing.Literal:
        if value not in arguments:
            raise SpecError(f"{where}: expected one of {', '.join(map(repr, arguments))}, found {value!r}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # bool is an int to isinstance, and "3" is no number
        raise SpecError(f"{where}: expected {hint.__name__}, found {value!r}")
    if (hint is int and value < 0) or (hint is float and not math.isfinite(value)):
        raise SpecError(f"{where}: expected a finite number, not negative where it counts something; found {value}")
    return value


_RESNET50 = BackboneSpec(depths=(3, 4, 6, 3))
_VD = {"stem": "deep", "shortcut": "avg_conv"}
_RESNEST50 = replace(_RESNET50, block="split_attention", radix=2, **_VD)
_WIDE_STEM = {"stem_width": 64, "stem_channels": 128}
# A quarter and half of the width and one block a layer: small enough to train on two cores while a reader waits.
_NARROW = {"depths": (1, 1, 1, 1), "stem_width": 16, "stem_channels": 32}

_BACKBONES = {
    "resnet10_narrow": BackboneSpec(block="basic", planes=(32, 64, 128, 256), **_NARROW),
    "resnest14_narrow": replace(_RESNEST50, planes=(16, 32, 64, 128), **_NARROW),
    "resnet18": BackboneSpec(depths=(2, 2, 2, 2), block="basic"),
    "resnet34": BackboneSpec(depths=(3, 4, 6, 3), block="basic"),
    "resnet50": _RESNET50,
    "resnet101": replace(_RESNET50, depths=(3, 4, 23, 3)),
    "resnet152": replace(_RESNET50, depths=(3, 8, 36, 3)),
    "resnet50_vd": replace(_RESNET50, **_VD),
    "resnet101_vd": replace(_RESNET50, depths=(3, 4, 23, 3), **_VD),
    "resnet152_vd": replace(_RESNET50, depths=(3, 8, 36, 3), **_VD),
    "resnest50": _RESNEST50,
    "resnest101": replace(_RESNEST50, depths=(3, 4, 23, 3), **_WIDE_STEM),
    "resnest200": replace(_RESNEST50, depths=(3, 24, 36, 3), **_WIDE_STEM),
    "resnest269": replace(_RESNEST50, depths=(3, 30, 48, 8), **_WIDE_STEM),
}

SPECS: dict[str, ModelSpec] = {name: ModelSpec(name, backbone) for name, backbone in _BACKBONES.items()}


def get_spec(name: str) -> ModelSpec:
    """The spec of a variant by its name.

    Raises:
        SpecError: no such variant; the message names the nearest ones.
    """
    if name in SPECS:
        return SPECS[name]
    near = difflib.get_close_matches(name, SPECS, n=3) or sorted(SPECS)
    raise SpecError(f"there is no model {name!r}. Did you mean {' or '.join(near)}?")
