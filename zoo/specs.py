"""Describes models as data: one frozen spec per variant (`zoo.variants` has the table).

Both frameworks build their networks from these specs only, so a variant exists in both or in neither.

Sources: ResNet (arXiv 1512.03385; stride in the first 1×1 convolution as in the original, "v1", or in the 3×3 as in
torchvision, "-B"), pre-activation (arXiv 1603.05027), the "-C" stem and the "-D" shortcut (arXiv 1812.01187), ResNeXt (arXiv
1611.05431), squeeze-and-excitation (arXiv 1709.01507), IBN-a (arXiv 1807.09441), ResNeSt (arXiv 2004.08955), Res2Net (arXiv
1904.01169), GeM (arXiv 1711.02512), and the head of the 2nd place solution of Google Landmark Retrieval 2020 (arXiv
2210.01624): GeM, then a linear layer to 512 without bias.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from zoo.errors import SpecError
from zoo.strict import Count, Pixels, Positive, read_fields

ADDED: Mapping[str, bool] = MappingProxyType({"added": True})
"""Metadata of the fields that specs did not have in the first version of the checkpoint format.

At its default, such a field is no part of a fingerprint, so that older checkpoints keep theirs. The default must be what models computed
before the field was added.
"""
Pool = Literal["gem", "avg", "max", "avg_max", "avg_gem", "max_gem"]
Neck = Literal["linear", "linear_bn", "bn_linear", "bn", "none"]
_WITHOUT_EXTRAS = ("preactivation", "split_attention", "res2net")
"""Blocks that have neither squeeze-and-excitation nor IBN-a."""


def told_apart(value: Any) -> Any:
    """What tells models apart, for JSON: a spec's fields but for the added ones that are at their default, specs inside it included."""
    if not dataclasses.is_dataclass(value):
        return value
    return {
        own.name: told_apart(found)
        for own in dataclasses.fields(value)
        if (found := getattr(value, own.name)) != own.default or not own.metadata.get("added")
    }


@dataclass(frozen=True)
class BackboneSpec:
    """A residual network up to its last feature map.

    Attributes:
        depths: blocks in layer1 … layer4.
        block: `basic` (two 3×3), `bottleneck` (1×1, 3×3, 1×1), `preactivation` (ResNet v2's bottleneck: BatchNorm and ReLU
            stand before each convolution), `split_attention` (ResNeSt's bottleneck) or `res2net` (a bottleneck whose 3×3
            convolution is a hierarchy of `scale` splits).
        planes: channels of the 3×3 convolution in layer1 … layer4 at cardinality 1 and base width 64.
        stem: `conv7x7`; or `deep`, three 3×3 convolutions of `stem_width`, `stem_width` and the stem's output channels;
            or `deep_tiered`, whose first one is a quarter narrower.
        stem_width: channels of the deep stem's first two convolutions.
        stem_channels: output channels of the stem, which are the input channels of layer1.
        shortcut: how a block's shortcut reduces the resolution: `conv` (1×1 convolution with stride) or `avg_conv` (2×2
            average pooling that does not count padding, then a 1×1 convolution: the "-D" shortcut).
        stem_pool: padding of the stem's 3×3 maximum pooling: `padded`, one pixel on each side that is never the maximum; `zeros`, one
            pixel of zeros on each side, which can be the maximum if no ReLU precedes it (Keras' ResNet v2); or `ceil`, none, with a
            last window that may be cut by the edge (Caffe, fast-reid).
        last_stride: stride of layer4's first block; 1 keeps its resolution, as in person re-identification (fast-reid).
        stride_in_first: a bottleneck's stride is in its first 1×1 convolution: the original ResNet (Caffe, Keras, MXNet's v1).
        stride_at_end: the last block of a layer has the stride of the next layer's first block (Keras' ResNet v2). Its shortcut then
            keeps every second pixel.
        convolution_bias: the convolutions of a pre-activation network that no BatchNorm follows have a bias: the stem's, each
            block's last and the shortcut's (Keras' ResNet v2).
        first_shortcut: layer1's first block has a 1×1 convolution in its shortcut even if the shape does not change
            (PaddleClas' basic blocks).
        cardinality: groups of the 3×3 convolution, as in ResNeXt; in ResNeSt, groups of each radix split.
        base_width: channels per group (for `res2net`: per split) of a layer with 64 `planes`.
        radix: splits that ResNeSt's attention weights.
        reduction: input channels of split attention divided by the channels of its hidden layer, which has at least 32.
        attention_bias: split attention's first 1×1 convolution has a bias (none in PaddleClas).
        avd_first: ResNeSt's 3×3 average pooling is before the split attention ("fast"), not after it.
        scale: number of splits in Res2Net's hierarchy.
        hierarchy_from_first: the first block of Res2Net's layer1 is hierarchical (PaddleClas). In the original, and in
            every layer with a stride, the first block convolves its splits separately and pools the last one.
        pool_counts_padding: ResNeSt's and Res2Net's 3×3 average poolings include the zero padding (the original;
            PaddleClas' do not).
        squeeze_excitation: squeeze-and-excitation with reduction 16 after the block's last BatchNorm.
        ibn_a: in layer1 … layer3, instance normalisation replaces half of the first BatchNorm.
    """

    depths: tuple[Count, Count, Count, Count]
    block: Literal["basic", "bottleneck", "preactivation", "split_attention", "res2net"] = "bottleneck"
    planes: tuple[Count, Count, Count, Count] = (64, 128, 256, 512)
    stem: Literal["conv7x7", "deep", "deep_tiered"] = "conv7x7"
    stem_width: Count = 32
    stem_channels: Count = 64
    shortcut: Literal["conv", "avg_conv"] = "conv"
    stem_pool: Literal["padded", "zeros", "ceil"] = field(default="padded", metadata=ADDED)
    last_stride: Literal[1, 2] = field(default=2, metadata=ADDED)
    stride_in_first: bool = field(default=False, metadata=ADDED)
    stride_at_end: bool = field(default=False, metadata=ADDED)
    convolution_bias: bool = field(default=False, metadata=ADDED)
    first_shortcut: bool = False
    cardinality: Count = 1
    base_width: Count = 64
    radix: Count = 1
    reduction: Count = 4
    attention_bias: bool = True
    avd_first: bool = False
    scale: Count = 1
    hierarchy_from_first: bool = False
    pool_counts_padding: bool = True
    squeeze_excitation: bool = False
    ibn_a: bool = False

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its planes."""
        return 1 if self.block == "basic" else 4

    @property
    def preactivated(self) -> bool:
        """Whether BatchNorm and ReLU precede the convolutions: the stem has none then, and they follow the last layer."""
        return self.block == "preactivation"

    @property
    def features(self) -> int:
        """Channels of the last feature map."""
        return self.planes[-1] * self.expansion

    @property
    def stem_widths(self) -> tuple[int, int]:
        """Channels of the deep stem's first two convolutions."""
        return (self.stem_width // 4 * 3 if self.stem == "deep_tiered" else self.stem_width, self.stem_width)

    def group_width(self, planes: int) -> int:
        """Channels of a block's 3×3 convolution; in Res2Net, of each of its 3×3 convolutions."""
        return planes * self.base_width // 64 * self.cardinality

    def stride(self, layer: int, index: int) -> int:
        """Stride of block `index` (from 0) of a layer (1 … 4)."""
        between = (2, 2, self.last_stride)
        if self.stride_at_end:
            return (*between, 1)[layer - 1] if index == self.depths[layer - 1] - 1 else 1
        return (1, *between)[layer - 1] if index == 0 else 1

    def squeezed(self, planes: int) -> int:
        """Channels of squeeze-and-excitation's hidden layer: a sixteenth, rounded to a multiple of 8."""
        return max(8, int(planes * self.expansion / 16 + 4) // 8 * 8)

    def needs_shortcut(self, layer: int, inputs: int, outputs: int) -> bool:
        """Whether the first block of a layer (1 … 4) has a convolution in its shortcut."""
        return layer > 1 or inputs != outputs or self.first_shortcut

    def instance_normalised(self, layer: int) -> bool:
        """Whether the blocks of a layer (1 … 4) use IBN-a."""
        return self.ibn_a and layer < 4

    def attention_channels(self, planes: int) -> int:
        """Channels of split attention's hidden layer."""
        return max(self.group_width(planes) * self.radix // self.reduction, 32)


@dataclass(frozen=True)
class HeadSpec:
    """The layers between the last feature map and the descriptor.

    Attributes:
        pool: global pooling: `gem` (generalised mean), `avg`, `max`, or two of them concatenated.
        gem_p: GeM's initial exponent; fixed unless `gem_p_learned`.
        gem_p_learned: whether GeM's exponent is trained.
        l2_before_neck: whether the pooled features are scaled to unit norm before the neck (cnnimageretrieval-pytorch,
            arXiv 1711.02512).
        neck: `linear`, `linear_bn` (a linear layer, then BatchNorm), `bn_linear` (BatchNorm, then a linear layer), `bn`
            (BatchNorm alone, the "BNNeck", arXiv 1903.07071, §3.5) or `none` (the pooled features are the embedding).
        neck_bias: whether the neck's linear layer has a bias.
        embedding_size: length of the neck's output; without a linear layer it must be the length of the pooled features.
        whitening_size: length of the descriptor if the neck's output is scaled to unit norm and then whitened, by a linear layer
            with a bias (the PCA of AP-GeM, arXiv 1906.07589); None without whitening.
        l2: whether the descriptor is scaled to unit Euclidean norm.
    """

    pool: Pool = "gem"
    gem_p: Positive = 3.0
    gem_p_learned: bool = True
    neck: Neck = "linear"
    neck_bias: bool = False
    embedding_size: Count = 512
    l2: bool = True
    l2_before_neck: bool = field(default=False, metadata=ADDED)
    whitening_size: Count | None = field(default=None, metadata=ADDED)

    @property
    def pools(self) -> tuple[str, ...]:
        """The global poolings, in the order of concatenation."""
        return tuple(self.pool.split("_"))

    @property
    def neck_layers(self) -> tuple[str, ...]:
        """The neck's layers, `linear` and `bn`, in the order in which they are applied."""
        return () if self.neck == "none" else tuple(self.neck.split("_"))


@dataclass(frozen=True)
class LossSpec:
    """The margin loss (`margins.py`). Its scale and, per stage, its margin are in the recipe.

    Attributes:
        kind: `arc_face` (arXiv 1801.07698), `cos_face` (1801.09414), `curricular_face` (2004.00288), `ada_cos`
            (1905.00292: no margin, and the scale adapts) or `dynamic_arc_face` (2010.05350: smaller margins for
            frequent classes).
        sub_centers: weight vectors per class, of which the nearest counts (Sub-center ArcFace, ECCV 2020); more than 1
            only for `arc_face` and `dynamic_arc_face`.
    """

    kind: Literal["arc_face", "cos_face", "curricular_face", "ada_cos", "dynamic_arc_face"] = "arc_face"
    sub_centers: Count = 1

    def __post_init__(self) -> None:
        if self.sub_centers > 1 and not self.kind.endswith("arc_face"):
            raise SpecError(
                f"{self.kind} with {self.sub_centers} sub_centers: only the arc_face losses have more than 1"
            )


@dataclass(frozen=True)
class PreprocessSpec:
    """How a uint8 RGB image is converted to the network's input (`zoo.preprocess`).

    Attributes:
        size: height and width in pixels to which an image of any shape is resized.
        mean, std: per channel, in the network's channel order, for pixels from 0 to 1; ImageNet's by default.
        channels: the network's channel order.
        resize: `antialias` widens the bilinear filter when it shrinks an image (a triangle filter, as in Pillow and
            `tf.image.resize(antialias=True)`); `bilinear` reads only the four nearest pixels, as OpenCV does by
            default.
    """

    size: Pixels = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    channels: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["antialias", "bilinear"] = "antialias"

    def changed(self, stated: "StatedPreprocess") -> "PreprocessSpec":
        """This preprocessing with what is stated; if the channels change, mean and std are reordered with them."""
        colours = {key: tuple(values) for key in ("mean", "std") if (values := getattr(stated, key)) is not None}
        others = {key: value for key in ("size", "resize") if (value := getattr(stated, key)) is not None}
        return replace(self.in_order(stated.channels or self.channels), **colours, **others)

    def in_order(self, channels: str) -> "PreprocessSpec":
        """The same preprocessing for another channel order; mean and std are reordered with the channels."""
        if channels == self.channels:
            return self
        return replace(self, channels=channels, mean=self.mean[::-1], std=self.std[::-1])


@dataclass(frozen=True)
class StatedPreprocess:
    """What a user, a file or a library states of a preprocessing: fields of `PreprocessSpec`; None leaves one as it is.

    Mean and std are in the order of the channels that result.
    """

    size: int | None = None
    channels: Literal["rgb", "bgr"] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    resize: Literal["antialias", "bilinear"] | None = None


@runtime_checkable
class NetworkSpec(Protocol):
    """What is known of any network in a SavedModel: a `ModelSpec` or an `ImportedSpec`."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def preprocess(self) -> PreprocessSpec:
        """How images are prepared for it."""
        ...

    @property
    def embedding_size(self) -> int:
        """Length of its descriptor."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `read_spec` reads them back."""
        ...


@dataclass(frozen=True)
class ModelSpec:
    """A model: its backbone, head, preprocessing and loss."""

    name: str
    backbone: BackboneSpec
    head: HeadSpec = field(default_factory=HeadSpec)
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    loss: LossSpec = field(default_factory=LossSpec)

    @property
    def features(self) -> int:
        """Length of the pooled features."""
        return self.backbone.features * len(self.head.pools)

    @property
    def embedding_size(self) -> int:
        """Length of the descriptor."""
        return self.head.whitening_size or self.head.embedding_size

    def __post_init__(self) -> None:
        backbone, head = self.backbone, self.head
        linear = "linear" in head.neck_layers
        if not linear and head.embedding_size != self.features:
            raise SpecError(
                f"{self.name}: without a linear layer in the neck the embedding is the pooled features, {self.features} long; "
                f"found embedding_size {head.embedding_size}. Set it to {self.features} or choose a neck."
            )
        if not linear and (head.neck_bias or head.whitening_size):
            raise SpecError(f"{self.name}: neck_bias and whitening_size belong to a neck with a linear layer")
        if head.neck == "none" and head.l2_before_neck:
            raise SpecError(f"{self.name}: l2_before_neck needs a neck")
        if backbone.block != "split_attention" and backbone.radix != 1:
            raise SpecError(
                f"{self.name}: radix {backbone.radix} needs block 'split_attention', found {backbone.block!r}"
            )
        if (backbone.block == "res2net") != (backbone.scale > 1):
            raise SpecError(f"{self.name}: a scale above 1 and block 'res2net' belong together")
        if backbone.block == "basic" and (backbone.cardinality, backbone.base_width) != (1, 64):
            raise SpecError(f"{self.name}: a basic block has cardinality 1 and base width 64")
        if backbone.stride_in_first and backbone.block != "bottleneck":
            raise SpecError(f"{self.name}: stride_in_first needs block 'bottleneck', found {backbone.block!r}")
        if not backbone.preactivated and (backbone.stride_at_end or backbone.convolution_bias):
            raise SpecError(
                f"{self.name}: stride_at_end and convolution_bias need block 'preactivation', found {backbone.block!r}"
            )
        if backbone.preactivated and (backbone.stem, backbone.shortcut) != ("conv7x7", "conv"):
            raise SpecError(f"{self.name}: block 'preactivation' needs stem 'conv7x7' and shortcut 'conv'")
        if backbone.block in _WITHOUT_EXTRAS and (backbone.squeeze_excitation or backbone.ibn_a):
            raise SpecError(f"{self.name}: squeeze-and-excitation and IBN-a belong to basic blocks and bottlenecks")
        if self.preprocess.size < 32:
            raise SpecError(f"{self.name}: size {self.preprocess.size} is below 32, the backbone's stride")

    def headless(self) -> "ModelSpec":
        """The model without a neck: the descriptor is the average-pooled features, scaled to unit norm."""
        head = HeadSpec(pool="avg", neck="none", embedding_size=self.backbone.features)
        return replace(self, head=head)

    def resized(self, size: int) -> "ModelSpec":
        """The same model for another input size, for example above the training size (FixRes, arXiv 1906.06423)."""
        return replace(self, preprocess=replace(self.preprocess, size=size))

    def to_dict(self) -> dict:
        """Plain values for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict) -> "ModelSpec":
        """Reads the values of `to_dict` strictly.

        Raises:
            SpecError: an unknown or a missing key, a value of the wrong type or out of range, or a combination that
                does not exist.
        """
        return read_fields(ModelSpec, values, "spec")


@dataclass(frozen=True)
class ImportedSpec:
    """A network from elsewhere, of which only the input and the output are known (`export.from_onnx`).

    Attributes:
        name: letters, digits, dots, hyphens and underscores; it becomes part of a function's name in TensorFlow.
        preprocess: how images are prepared for it.
        embedding_size: length of its descriptor.
    """

    name: str
    preprocess: PreprocessSpec
    embedding_size: Count

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise SpecError(
                f"expected a name of at most 100 letters, digits, dots, hyphens and underscores, found {self.name[:120]!r}"
            )

    def to_dict(self) -> dict:
        """Plain values for JSON; `read_spec` reads them back."""
        return dataclasses.asdict(self)


def read_spec(values: object) -> ModelSpec | ImportedSpec:
    """Reads the values of either `to_dict` strictly.

    Raises:
        SpecError: as `ModelSpec.from_dict`.
    """
    imported = isinstance(values, dict) and "embedding_size" in values
    return read_fields(ImportedSpec if imported else ModelSpec, values, "spec")
