"""The libraries that publish networks: how they name tensors, and what they compute that no tensor tells.

Read from their code, which is public: cnnimageretrieval-pytorch (imageretrievalnet.py; arXiv 1711.02512), deep-image-retrieval
(rmac_resnet.py, common.py; arXiv 1906.07589), the PyTorch version of DELG (arXiv 2001.05027) and CVNet (model/resnet.py; arXiv
2204.01458), whose weights SuperGlobal (arXiv 2308.06954) uses, pymetric (linear_head.py; the code of arXiv 2210.01624), fast-reid
(embedding_head.py, bnneck_head.py, reduction_head.py, resnet.py; arXiv 2006.02631), PaddleClas (ppcls/arch, RecModel), pycls
(pycls/datasets/imagenet.py), keras.applications (imagenet_utils.py, modes "caffe" and "tf") and timm (resnetv2.py, `_cfg`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.published.keras_names import KERAS
from zoo.published.names import STATISTICS, plain_name
from zoo.specs import BackboneSpec, PreprocessSpec, StatedPreprocess

_IMAGENET = PreprocessSpec()
_RGB = StatedPreprocess(channels="rgb", mean=_IMAGENET.mean, std=_IMAGENET.std)
_BGR = StatedPreprocess(channels="bgr", mean=_IMAGENET.mean[::-1], std=_IMAGENET.std[::-1])
_HALVES = StatedPreprocess(channels="rgb", mean=(0.5,) * 3, std=(0.5,) * 3)
"""Pixels from -1 to 1."""
_CAFFE = StatedPreprocess(channels="bgr", mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255,) * 3)
"""Pixels from 0 to 255, from which the mean of blue, green and red is subtracted, and which nothing divides."""


@dataclass(frozen=True)
class Library:
    """A library, or one of the ways in which its networks are built and named.

    Names are relative to where a network's names begin: before `trunk`, which leads to the backbone.

    Attributes:
        name: the library.
        trunk: what leads to the backbone's names; nothing if the head's names stand among them.
        signs: names of tensors, each of which tells the library.
        images: how the library prepares images; empty if the model's spec says it.
        buffers: {a tensor's name: `mean` or `std`}, per channel for pixels from 0 to 255, which replace those of `images`.
        modules: {a module of the head: its canonical name}; empty if its networks have no head that makes descriptors.
        head: names (a regular expression) that take part in the descriptor; one that `modules` does not have is a layer that the zoo
            does not have. The empty expression is for all names.
        training: names (a regular expression) among those that only training uses, such as class weights.
        pool: the pooling if there is no exponent of GeM; None if only the file's settings or the user can tell.
        l2_before_neck: whether the pooled features are scaled to unit norm.
        backbone: how the backbone differs from the variant with the same tensors: fields of `BackboneSpec`.
        plain_resnets: the same for ResNets of basic blocks and bottlenecks without groups.
        dilated: blocks whose convolutions are dilated in a last layer of stride 1, which the zoo does not have.
        own_backbone: whether no other library names a backbone like that, so that it is one of this library's in `Variant.equals`.
    """

    name: str
    trunk: str
    signs: frozenset[str]
    images: StatedPreprocess = _RGB
    buffers: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    head: str = ""
    training: str = r"(?!)"
    pool: Literal["avg"] | None = None
    l2_before_neck: bool = False
    backbone: Mapping[str, Any] = field(default_factory=dict)
    plain_resnets: Mapping[str, Any] = field(default_factory=dict)
    dilated: frozenset[str] = frozenset()
    own_backbone: bool = False

    def assumed(self, backbone: BackboneSpec) -> dict[str, Any]:
        """How a backbone of the library differs from the variant with the same tensors."""
        plain = backbone.block in ("basic", "bottleneck") and backbone.cardinality == 1
        return {**self.backbone, **(self.plain_resnets if plain else {})}


@dataclass(frozen=True)
class HeadNames:
    """What the names beside a backbone mean.

    Attributes:
        canonical: {the file's name: canonical name} of the head's tensors.
        unknown: the file's names of layers that take part in the descriptor, and that the zoo does not have.
    """

    canonical: dict[str, str]
    unknown: list[str]


CIRTORCH = "cnnimageretrieval-pytorch"
DIRTORCH = "deep-image-retrieval"
OWN = "landmark-zoo"
"""What `write_weights` writes: canonical names."""


def _fast_reid(sign: str, modules: Mapping[str, str], *, padded: bool = False) -> Library:
    """fast-reid, whose configurations have LAST_STRIDE 1.

    Since November 2020, plain ResNets do not pad the stem's pooling, and since December, ResNeSts are dilated. (Version 1.0 is of January
    2021.) Until March 2021 the files had the mean and the deviation of pixels.

    Args:
        sign: a name that tells it.
        modules: of its head, beside the pooling.
        padded: whether it is of before November 2020.
    """
    return Library(
        "fast-reid",
        trunk="backbone.",
        signs=frozenset({sign}),
        buffers={"pixel_mean": "mean", "pixel_std": "std"},
        modules={"heads.pool_layer": "pool", **modules},
        head=r"heads\.",
        training=r"heads\.(weight$|classifier\.|cls_layer\.)",
        pool="avg",
        backbone={"last_stride": 1},
        plain_resnets={} if padded else {"stem_pool": "ceil"},
        dilated=frozenset() if padded else frozenset({"split_attention"}),
    )


def _rec_model(modules: Mapping[str, str], backbone: Mapping[str, Any] | None = None) -> Library:
    """PaddleClas' RecModel; its configurations combine VehicleNeck, a convolution, with ResNet50_last_stage_stride1."""
    return Library(
        "PaddleClas",
        trunk="backbone.",
        signs=frozenset(f"{module}.weight" for module in modules),
        modules=modules,
        head=r"neck\.",
        pool="avg",
        backbone=backbone or {},
    )


LIBRARIES = (
    Library(
        CIRTORCH,
        trunk="features.",
        signs=frozenset({"pool.p", "pool.rpool.p", "whiten.weight", "lwhiten.weight"}),
        modules={"pool": "pool", "whiten": "neck.linear"},
        l2_before_neck=True,
    ),
    Library(
        DIRTORCH,
        trunk="",
        signs=frozenset({"adpool.p", "adpoolx5.p"}),
        modules={"adpool": "pool", "fc": "neck.linear"},
    ),
    Library(
        "DELG or CVNet",
        trunk="",
        signs=frozenset({"head.pool.p"}),
        modules={"head.pool": "pool", "head.fc": "neck.linear"},
        images=_BGR,
    ),
    Library(
        "pymetric",
        trunk="backbone.",
        signs=frozenset({"head.embedding_layer.weight"}),
        modules={"head.pool_layer": "pool", "head.embedding_layer": "neck.linear"},
        head=r"head\.",
        training=r"head\.classifier\.",
        pool="avg",
        images=_BGR,
    ),
    _fast_reid("heads.bottleneck.0.running_var", {"heads.bottleneck.0": "neck.bn"}),
    _fast_reid("heads.bottleneck.0.weight", {"heads.bottleneck.0": "neck.linear", "heads.bottleneck.1": "neck.bn"}),
    _fast_reid("heads.bnneck.running_var", {"heads.bnneck": "neck.bn"}, padded=True),
    _fast_reid("heads.weight", {}),
    _rec_model({"neck.conv": "neck.linear"}, {"last_stride": 1}),
    _rec_model({"neck.fc": "neck.linear"}),
    _rec_model({"neck.feat_bn": "neck.bn"}),
    Library(
        OWN,
        trunk="backbone.",
        signs=frozenset({"pool.p", "pool.gem.p", "neck.linear.weight", "neck.bn.weight", "arc_margin.weight"}),
        images=StatedPreprocess(),
        modules={
            module: module
            for module in ("pool", "pool.gem", "neck.linear", "neck.bn", "neck.whitening.linear", "arc_margin")
        },
        head=r"(pool|neck)\.",
    ),
    # What follows has no head that makes descriptors.
    Library("pycls", trunk="", signs=frozenset({"s1.b1.f.a.weight"}), images=_BGR),
    Library("timm", trunk="", signs=frozenset({"stages.0.blocks.0.norm1.weight"}), images=_HALVES, own_backbone=True),
    Library(KERAS, trunk="", signs=frozenset({"conv2_block1_preact_bn.weight"}), images=_HALVES, own_backbone=True),
    Library(KERAS, trunk="", signs=frozenset({"conv2_block1_1_conv.weight"}), images=_CAFFE, own_backbone=True),
    Library(
        "PaddleClas",
        trunk="",
        signs=frozenset(
            {
                "blocks.0.conv0.conv.weight",
                "layer1.layer1_bottleneck_0.conv1._conv.weight",
                "bb_0_0.conv0._conv.weight",
            }
        ),
        own_backbone=True,
    ),
    # No more than a pooling or class weights tells these networks of fast-reid, and only under its own names.
    _fast_reid("heads.pool_layer.p", {}),
    _fast_reid("heads.classifier.weight", {}),
)
"""In the order in which they are tried."""


_SHARED = frozenset({"timm", "torchvision", "paddle.vision", "ResNeSt", "IBN-Net", KERAS})
"""Libraries of `Variant.equals` whose networks have torchvision's names; Keras' have been converted to them, as Caffe's and MXNet's."""


def library_of(prefix: str, names: Iterable[str], settings: str | None = None) -> Library | None:
    """The library whose network has these names, or None.

    Args:
        prefix: what stands before the backbone's names.
        names: of all tensors in the file.
        settings: the name of the library whose settings the file holds, which tells without a sign.
    """
    return next(_matching(prefix, names, settings), None)


def publishers(prefix: str, names: Iterable[str]) -> frozenset[str] | None:
    """The libraries that name a backbone like that, as `Variant.equals` spells them; None if the names are canonical.

    Names matter because networks with the same tensors may differ in what they compute: PaddleClas' average poolings do
    not count padding.
    """
    for library in _matching(prefix, names):
        if library.own_backbone:
            return frozenset({library.name})
    return None if prefix == "backbone." else _SHARED


def _matching(prefix: str, names: Iterable[str], settings: str | None = None) -> Iterator[Library]:
    """The libraries of which there is a sign."""
    plain = {plain_name(name) for name in names}
    for library in LIBRARIES:
        if prefix.endswith(library.trunk):
            root = prefix.removesuffix(library.trunk)
            if library.name == settings or any(root + sign in plain for sign in library.signs):
                yield library


def head_names(library: Library, prefix: str, names: Iterable[str]) -> HeadNames:
    """Which of the names beside a backbone are its head's.

    Args:
        library: the one of `library_of`.
        prefix: what stands before the backbone's names.
        names: of the tensors that are not the backbone's.
    """
    root = prefix.removesuffix(library.trunk)
    canonical: dict[str, str] = {}
    unknown: list[str] = []
    for name in names:
        plain = plain_name(name)
        if not plain.startswith(root):
            continue
        inside = plain.removeprefix(root)
        module, _, last = inside.rpartition(".")
        if module in library.modules:
            canonical[name] = f"{library.modules[module]}.{STATISTICS.get(last, last)}"
        elif re.match(library.head, inside) and not re.match(library.training, inside):
            unknown.append(name)
    return HeadNames(canonical, unknown)
