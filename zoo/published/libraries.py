"""The libraries that publish retrieval networks: how they name a head's tensors, and what they compute with them.

Read from their code, which is public: cnnimageretrieval-pytorch (arXiv 1711.02512), deep-image-retrieval (arXiv 1906.07589), the
PyTorch version of DELG (arXiv 2001.05027), CVNet (arXiv 2204.01458) and SuperGlobal (arXiv 2308.06954), which uses CVNet's weights,
pymetric (the code of arXiv 2210.01624), fast-reid (arXiv 2006.02631), and PaddleClas' RecModel.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.published.names import STATISTICS, plain_name
from zoo.specs import BackboneSpec


@dataclass(frozen=True)
class Library:
    """A library of retrieval networks, or one of its heads.

    Names are relative to where a network's names begin: before `trunk`, which leads to the backbone.

    Attributes:
        name: the library.
        trunk: what leads to the backbone's names; nothing if the head's names stand among them.
        signs: names of tensors, each of which tells the library.
        modules: {a module of the head: its canonical name}.
        head: names (a regular expression) that take part in the descriptor; one that `modules` does not have is a layer that the zoo
            does not have.
        training: names (a regular expression) among those that only training uses, such as class weights.
        pool: the pooling if there is no exponent of GeM; None if only the file's settings or the user can tell.
        l2_before_neck: whether the pooled features are scaled to unit norm.
        backbone: how the backbone differs from the variant with the same tensors: fields of `BackboneSpec`.
        plain: the same for ResNets of basic blocks and bottlenecks without groups.
        dilated: blocks whose convolutions are dilated in a last layer of stride 1, which the zoo does not have.
        channels: the order that the library's images have.
    """

    name: str
    trunk: str
    signs: frozenset[str]
    modules: Mapping[str, str] = field(default_factory=dict)
    head: str = ""
    training: str = r"(?!)"
    pool: Literal["avg"] | None = None
    l2_before_neck: bool = False
    backbone: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    dilated: frozenset[str] = frozenset()
    channels: Literal["rgb", "bgr"] = "rgb"

    def assumed(self, backbone: BackboneSpec) -> dict[str, Any]:
        """How a backbone of the library differs from the variant with the same tensors."""
        plain = backbone.block in ("basic", "bottleneck") and backbone.cardinality == 1
        return {**self.backbone, **(self.plain if plain else {})}


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


def _fast_reid(sign: str, modules: Mapping[str, str], *, before_1: bool = False) -> Library:
    """fast-reid, whose configurations have LAST_STRIDE 1. Since version 1.0, plain ResNets do not pad the stem's pooling."""
    return Library(
        "fast-reid before 1.0" if before_1 else "fast-reid",
        trunk="backbone.",
        signs=frozenset({sign}),
        modules={"heads.pool_layer": "pool", **modules},
        head=r"heads\.",
        training=r"heads\.(weight$|classifier\.|cls_layer\.)",
        pool="avg",
        backbone={"last_stride": 1},
        plain={} if before_1 else {"stem_pool": "ceil"},
        dilated=frozenset() if before_1 else frozenset({"split_attention"}),
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
        channels="bgr",
    ),
    Library(
        "pymetric",
        trunk="backbone.",
        signs=frozenset({"head.embedding_layer.weight"}),
        modules={"head.pool_layer": "pool", "head.embedding_layer": "neck.linear"},
        head=r"head\.",
        training=r"head\.classifier\.",
        pool="avg",
        channels="bgr",
    ),
    _fast_reid("heads.bottleneck.0.running_var", {"heads.bottleneck.0": "neck.bn"}),
    _fast_reid("heads.bottleneck.0.weight", {"heads.bottleneck.0": "neck.linear", "heads.bottleneck.1": "neck.bn"}),
    _fast_reid("heads.bnneck.running_var", {"heads.bnneck": "neck.bn"}, before_1=True),
    _fast_reid("heads.weight", {}),
    _rec_model({"neck.conv": "neck.linear"}, {"last_stride": 1}),
    _rec_model({"neck.fc": "neck.linear"}),
    _rec_model({"neck.feat_bn": "neck.bn"}),
    # A classifier has no head that makes descriptors, but its images are in the order of pycls.
    Library("pycls", trunk="", signs=frozenset({"stem.conv.weight"}), channels="bgr"),
)
"""In the order in which they are tried."""


def library_of(prefix: str, names: Iterable[str], settings: str | None = None) -> Library | None:
    """The library whose network has these names, or None.

    Args:
        prefix: what stands before the backbone's names.
        names: of all tensors in the file.
        settings: the name of the library whose settings the file holds, which tells without a sign.
    """
    plain = {plain_name(name) for name in names}
    for library in LIBRARIES:
        if prefix.endswith(library.trunk):
            root = prefix.removesuffix(library.trunk)
            if library.name == settings or any(root + sign in plain for sign in library.signs):
                return library
    return None


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
